//! Sends a request to the engine and gives back its answer.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fastwrap_core::error::Fault;
use fastwrap_core::exchange::{Exchange, Plan};
use fastwrap_core::meter::Meter;
use http::{HeaderValue, Request, Response, Uri, Version, header, request};
use hyper::body::Incoming;
use rustls::ClientConfig;

use crate::answer::{Answer, Source};
use crate::connection::{Connection, Payload, SendError};
use crate::pool::Pool;
use crate::stream::{EngineStream, Stamps, tls_config};
use crate::upstream::{Address, Upstream};
use crate::wait::Wait;
use fastwrap_clock::now_ns;

/// Connections closed in one go while requests wait: some microseconds each.
const CLOSED_AT_ONCE: usize = 16;

/// How long the engine may take; `None` for any time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    /// To accept a connection.
    pub connect: Option<Duration>,
    /// From the request's last byte to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the answer.
    pub idle: Option<Duration>,
    /// For all of it.
    pub total: Option<Duration>,
}

/// Why a relay cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayError(String);

impl fmt::Display for RelayError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for RelayError {}

/// The way to one engine.
pub struct Relay {
    /// What all its requests share.
    pub meter: Arc<Meter>,
    upstream: Upstream,
    timeouts: Timeouts,
    tls: Option<Arc<ClientConfig>>,
    pub(crate) pool: Pool,
}

impl fmt::Debug for Relay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Relay").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Relay {
    /// Prepares the way; connects to nothing yet.
    ///
    /// # Errors
    /// If TLS is wanted and no certificates can be found.
    pub fn new(
        upstream: Upstream,
        timeouts: Timeouts,
        meter: Arc<Meter>,
    ) -> Result<Self, RelayError> {
        let tls = match upstream.address {
            Address::Tcp { tls: true, .. } => Some(tls_config().map_err(RelayError)?),
            _ => None,
        };
        Ok(Self { meter, upstream, timeouts, tls, pool: Pool::default() })
    }

    /// Runs for ever beside what a runtime serves, and closes connections that nobody has used for long.
    ///
    /// tokio wakes its own reactor, by a write to an eventfd and one more turn, whenever a timer is set that is due before
    /// all others: each request's timeout would be. This timer, always due within a second, spares all of them that.
    pub async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            while self.pool.close_old(CLOSED_AT_ONCE, now_ns()) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Sends an admitted and acceptable request. Whatever goes wrong becomes an answer.
    ///
    /// The parts are the client's; they are made fit for the engine here. The body has been through
    /// [`Exchange::body`], or is a stream.
    pub async fn send(
        self: &Arc<Self>,
        mut exchange: Box<Exchange>,
        parts: request::Parts,
        payload: Payload,
    ) -> Response<Answer> {
        let began_ns = now_ns();
        let Some(request) = self.prepare(parts, payload, &exchange) else {
            return exchange.refuse(Fault::BadRequest, now_ns()).map(Answer::whole);
        };
        let mut wait = Wait::new(self.timeouts, began_ns);
        match self.exchange(request, &mut wait).await {
            Ok((connection, response)) => self.answer(exchange, connection, response, wait).await,
            Err(fault) => exchange.refuse(fault, now_ns()).map(Answer::whole),
        }
    }

    /// Makes the client's request fit for the engine, which is the configured one, whatever the client names; `None` if
    /// its target does not fit behind the engine's path.
    fn prepare(
        &self,
        mut parts: request::Parts,
        payload: Payload,
        exchange: &Exchange,
    ) -> Option<Request<Payload>> {
        let prefix = &self.upstream.prefix;
        if !prefix.is_empty() {
            let target = format!("{prefix}{}", parts.uri.path_and_query()?);
            parts.uri = Uri::builder().path_and_query(target).build().ok()?;
        }
        parts.version = Version::HTTP_11;
        let length = parts.headers.get(header::CONTENT_LENGTH).cloned();
        exchange.prepare(&mut parts.headers, &self.upstream.host);
        match (&payload, length) {
            (Payload::Streamed(_), Some(length)) => {
                parts.headers.insert(header::CONTENT_LENGTH, length);
            }
            // hyper says the length of every other body.
            (Payload::Whole(None), Some(_)) => {
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            _ => {}
        }
        Some(Request::from_parts(parts, payload))
    }

    async fn exchange(
        &self,
        mut request: Request<Payload>,
        wait: &mut Wait,
    ) -> Result<(Connection, Response<Incoming>), Fault> {
        let mut pooled = poll_fn(|cx| Poll::Ready(self.pool.take(cx))).await;
        loop {
            let reused = pooled.is_some();
            let mut connection = match pooled.take() {
                Some(connection) => connection,
                None => Box::pin(self.connect()).await?,
            };
            let mut response = connection.start(request);
            let since_ns = now_ns();
            let result = poll_fn(|cx| {
                if let Poll::Ready(result) = connection.poll_response(cx, &mut response) {
                    return Poll::Ready(Ok(result));
                }
                // An upload that makes progress is no silence.
                let waiting_ns = connection.stamps.written_ns().max(since_ns);
                wait.poll_first_byte(cx, waiting_ns).map(Err)
            });
            match result.await? {
                Ok(response) => return Ok((connection, response)),
                // An idle connection that was closed meanwhile: nothing was sent, so a new one is tried, once.
                Err(SendError::NotSent(unsent)) if reused => request = *unsent,
                Err(SendError::NotSent(_)) => return Err(Fault::EngineClosed),
                Err(SendError::Broken(fault)) => return Err(fault),
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let stamps = Arc::new(Stamps::default());
        let connect = async {
            let stream =
                EngineStream::connect(&self.upstream.address, self.tls.as_ref(), &stamps).await;
            let stream = stream.map_err(|_| Fault::Unreachable)?;
            Connection::new(stream, Arc::clone(&stamps)).await.map_err(|_| Fault::Unreachable)
        };
        match self.timeouts.connect {
            Some(limit) => {
                tokio::time::timeout(limit, connect).await.unwrap_or(Err(Fault::ConnectTimeout))
            }
            None => connect.await,
        }
    }

    async fn answer(
        self: &Arc<Self>,
        mut exchange: Box<Exchange>,
        connection: Connection,
        response: Response<Incoming>,
        wait: Wait,
    ) -> Response<Answer> {
        let (mut head, body) = response.into_parts();
        exchange.sent(connection.stamps.written_ns());
        if head.status.is_informational() {
            // The engine goes on in a protocol that nobody asked for.
            return exchange.refuse(Fault::EngineClosed, now_ns()).map(Answer::whole);
        }
        let plan = exchange.response(head.status, &mut head.headers);
        let source = Source { connection, body, relay: Arc::clone(self), wait };
        let mut answer = Answer::new(exchange, source);
        if plan == Plan::Collect
            && let Err(fault) = poll_fn(|cx| answer.poll_collected(cx, &mut head)).await
        {
            return answer.refuse(fault).map(Answer::whole);
        }
        head.version = Version::HTTP_11;
        Response::from_parts(head, answer)
    }
}

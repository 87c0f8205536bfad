//! A client with one connection: sends the one request again and again, and reads the answers.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;

use crate::answer::{Answer, Failure, Reader};
use crate::error::BenchError;
use crate::settings::{Mode, Settings};
use crate::socket::Socket;
use crate::target::{Address, Target};

/// A target, and what it is asked.
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Endpoint {
    pub(crate) fn new(
        settings: &Settings,
        target: &Target,
        address: Address,
        body: Bytes,
    ) -> Result<Self, BenchError> {
        let bad = |problem: &dyn std::fmt::Display| {
            BenchError::Settings(format!("a request cannot be made: {problem}"))
        };
        let uri =
            format!("{}{}", target.prefix, settings.path).parse::<Uri>().map_err(|e| bad(&e))?;
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(&target.host).map_err(|e| bad(&e))?;
        headers.insert(header::HOST, host);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let accept = match settings.mode {
            Mode::Json => "application/json",
            Mode::Sse => "text/event-stream",
        };
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let agent = concat!("fastwrap-bench/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        for (name, value) in &settings.headers {
            headers.insert(name, value.clone());
        }
        Ok(Self { address, uri, headers, body })
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// The same target, asked for its list of models.
    pub(crate) fn models(&self, target: &Target) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request =
            Request::get(format!("{}/v1/models", target.prefix)).body(Full::default())?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().remove(header::CONTENT_TYPE);
        Ok(request)
    }
}

struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Gone once the connection is closed.
    driver: Option<http1::Connection<Socket, Full<Bytes>>>,
}

impl Connection {
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    /// Whether it takes another request.
    async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            if self.driver.is_none() {
                return Poll::Ready(false);
            }
            self.sender.poll_ready(cx).map(|ready| ready.is_ok())
        })
        .await
    }
}

/// One client; drives its connection itself while it waits.
pub(crate) struct Client {
    endpoint: Rc<Endpoint>,
    connection: Option<Connection>,
    read_ns: Rc<Cell<u64>>,
    pub(crate) reader: Reader,
    /// How often it has connected.
    pub(crate) connects: u64,
    /// The beginning of the last body, where somebody wants to show it.
    pub(crate) shown: Option<Vec<u8>>,
}

/// An idle connection may be closed at any time, but not every time.
const MAX_TRIES: u32 = 3;
/// Who does not accept within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an unexpected body is shown.
const SHOWN_BYTES: usize = 200;

impl Client {
    pub(crate) fn new(endpoint: Rc<Endpoint>, mode: Mode) -> Self {
        Self {
            endpoint,
            connection: None,
            read_ns: Rc::default(),
            reader: Reader::new(mode),
            connects: 0,
            shown: None,
        }
    }

    /// Connects, unless it is connected.
    pub(crate) async fn prepare(&mut self) -> std::io::Result<()> {
        if let Some(connection) = &mut self.connection
            && connection.is_ready().await
        {
            return Ok(());
        }
        self.connection = None;
        let connecting = Socket::connect(&self.endpoint.address, Rc::clone(&self.read_ns));
        let socket = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await??;
        let handshake = http1::handshake(socket).await.map_err(std::io::Error::other)?;
        let mut connection = Connection { sender: handshake.0, driver: Some(handshake.1) };
        self.connects += 1;
        if connection.is_ready().await {
            self.connection = Some(connection);
            return Ok(());
        }
        Err(std::io::ErrorKind::ConnectionReset.into())
    }

    /// Asks the endpoint's question; the answer's times are in `reader`. Gives the answer and when its last byte came.
    pub(crate) async fn ask(&mut self) -> Result<(Answer, u64), Failure> {
        let mut request = self.endpoint.request();
        for _ in 0..MAX_TRIES {
            match self.send(request).await {
                Ok(result) => return result,
                // The connection had been closed before anything was sent: that is no answer.
                Err(unsent) => request = unsent,
            }
        }
        Err(Failure::Closed)
    }

    /// Sends a request and reads its answer, or gives the request back if it was not sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<(Answer, u64), Failure>, Request<Full<Bytes>>> {
        self.reader.clear();
        if let Some(shown) = &mut self.shown {
            shown.clear();
        }
        if self.prepare().await.is_err() {
            return Ok(Err(Failure::Connect));
        }
        // Taken out: if this future is dropped, the connection is, too.
        let Some(mut connection) = self.connection.take() else { return Ok(Err(Failure::Connect)) };
        let response = {
            let mut sending = pin!(connection.sender.try_send_request(request));
            let driver = &mut connection.driver;
            poll_fn(|cx| {
                if let Some(running) = driver
                    && Pin::new(running).poll(cx).is_ready()
                {
                    *driver = None;
                }
                sending.as_mut().poll(cx)
            })
            .await
        };
        let response = match response {
            Ok(response) => response,
            Err(mut error) => return error.take_message().map_or(Ok(Err(Failure::Closed)), Err),
        };
        let status = response.status().as_u16();
        let mut body = response.into_body();
        loop {
            let frame = poll_fn(|cx| {
                // The first look may only tell the connection that more is wanted.
                if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
                    return Poll::Ready(frame);
                }
                connection.drive(cx);
                Pin::new(&mut body).poll_frame(cx)
            });
            match frame.await {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.reader.push(bytes, self.read_ns.get());
                        self.show(bytes);
                    }
                }
                Some(Err(_)) => return Ok(Err(Failure::Closed)),
                None => break,
            }
        }
        let at_ns = self.read_ns.get();
        self.connection = Some(connection);
        Ok(self.reader.finish(status, at_ns).map(|answer| (answer, at_ns)))
    }

    /// Sends another request, and gives the body of a good answer to it.
    pub(crate) async fn fetch(&mut self, request: Request<Full<Bytes>>) -> Option<Bytes> {
        self.prepare().await.ok()?;
        let mut connection = self.connection.take()?;
        let mut response = pin!(connection.sender.send_request(request));
        let driver = connection.driver.as_mut()?;
        let exchange = async {
            let response = response.as_mut().await.ok()?;
            let good = response.status().is_success();
            Some(response.into_body().collect().await.ok()?.to_bytes()).filter(|_| good)
        };
        tokio::select! { biased; body = exchange => body, _ = driver => None }
    }

    fn show(&mut self, bytes: &[u8]) {
        if let Some(shown) = &mut self.shown {
            let room = SHOWN_BYTES.saturating_sub(shown.len());
            shown.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        }
    }
}

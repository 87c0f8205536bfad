//! The listening socket and its connections.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;

use crate::options::Options;
use crate::route::Router;
use crate::socket::Socket;

/// Connections that may wait to be accepted: as many as Linux lets wait. A proxy that is asked by thousands at once
/// connects as often, and whoever finds no place tries again after a second.
const BACKLOG: u32 = 4096;

/// How long to wait before accepting again when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A simulated engine that listens, but does not answer before [`Engine::serve`].
pub struct Engine {
    listener: TcpListener,
    address: SocketAddr,
    router: Arc<Router>,
}

impl Engine {
    /// Listen on `host` and `port`; port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// If the address cannot be resolved or bound.
    pub async fn bind(host: &str, port: u16, options: Options) -> io::Result<Self> {
        let mut bound = Err(io::ErrorKind::AddrNotAvailable.into());
        for address in lookup_host((host, port)).await? {
            bound = listen(address);
            if bound.is_ok() {
                break;
            }
        }
        let listener = bound?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, router: Arc::new(Router::new(options)) })
    }

    /// Return the address on which the engine listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answer requests until `shutdown` resolves; connections that are open then are closed at once.
    ///
    /// Runs on whatever tokio runtime polls it; a `current_thread` one is the fastest.
    ///
    /// # Errors
    ///
    /// If the listening socket fails for good.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let mut shutdown = pin!(shutdown);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                accepted = self.listener.accept() => accepted,
                () = reap(&mut connections) => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    drop(connections.spawn(converse(stream, Arc::clone(&self.router))))
                }
                Err(error) if is_transient(&error) => tokio::time::sleep(ACCEPT_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Wait until a connection has ended; for ever while there is none.
async fn reap(connections: &mut JoinSet<()>) {
    poll_fn(|cx| match connections.poll_join_next(cx) {
        Poll::Ready(Some(_)) => Poll::Ready(()),
        Poll::Ready(None) | Poll::Pending => Poll::Pending,
    })
    .await;
}

/// Answer the requests of one connection; how it ends is the client's affair.
async fn converse(stream: TcpStream, router: Arc<Router>) {
    // Without this an event waits for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let router = Arc::clone(&router);
        async move { router.answer(request).await }
    });
    let _ = http1::Builder::new()
        .header_read_timeout(None)
        .pipeline_flush(true)
        .serve_connection(Socket(stream), service)
        .await;
}

/// Whether accepting may succeed later: the client has gone, or descriptors have run out.
fn is_transient(error: &io::Error) -> bool {
    // EMFILE and ENFILE on every Unix.
    matches!(error.raw_os_error(), Some(23 | 24))
        || matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::Interrupted
        )
}

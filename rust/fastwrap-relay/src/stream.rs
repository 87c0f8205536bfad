//! A connection's bytes, with the time at which they left or entered the socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::upstream::Address;
use fastwrap_clock::now_ns;

/// When a socket was last read and written.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    read_ns: AtomicU64,
    written_ns: AtomicU64,
}

impl Stamps {
    pub(crate) fn read_ns(&self) -> u64 {
        self.read_ns.load(Ordering::Relaxed)
    }

    pub(crate) fn written_ns(&self) -> u64 {
        self.written_ns.load(Ordering::Relaxed)
    }
}

/// A socket that stamps: below TLS, before anybody looks at the bytes.
#[derive(Debug)]
pub(crate) struct Stamped<S> {
    socket: S,
    stamps: Arc<Stamps>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Stamped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.stamps.read_ns.store(now_ns(), Ordering::Relaxed);
        }
        result
    }
}

impl<S> Stamped<S> {
    /// Stamps a write with the moment before it: on a busy machine the engine runs on this very CPU, and may have
    /// answered, before the call returns.
    fn stamp_write(
        &self,
        began_ns: u64,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(_)) = result {
            self.stamps.written_ns.store(began_ns, Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stamped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let began_ns = now_ns();
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.stamp_write(began_ns, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let began_ns = now_ns();
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.stamp_write(began_ns, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A connection to the engine.
#[derive(Debug)]
pub(crate) enum EngineStream {
    Tcp(Stamped<TcpStream>),
    Tls(Box<TlsStream<Stamped<TcpStream>>>),
    Unix(Stamped<UnixStream>),
}

/// Trusts the machine's certificates (and `SSL_CERT_FILE`); HTTP/1.1 only.
pub(crate) fn tls_config() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("no trusted certificates were found; set SSL_CERT_FILE to a bundle".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl EngineStream {
    pub(crate) async fn connect(
        address: &Address,
        tls: Option<&Arc<ClientConfig>>,
        stamps: &Arc<Stamps>,
    ) -> io::Result<Self> {
        let stamps = Arc::clone(stamps);
        match address {
            Address::Unix(path) => {
                Ok(Self::Unix(Stamped { socket: UnixStream::connect(path).await?, stamps }))
            }
            Address::Tcp { host, port, .. } => {
                let socket = TcpStream::connect((host.as_str(), *port)).await?;
                socket.set_nodelay(true)?;
                let stamped = Stamped { socket, stamps };
                let Some(config) = tls else {
                    return Ok(Self::Tcp(stamped));
                };
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let connector = TlsConnector::from(Arc::clone(config));
                Ok(Self::Tls(Box::new(connector.connect(name, stamped).await?)))
            }
        }
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $call,
            Self::Tls($stream) => $call,
            Self::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for EngineStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

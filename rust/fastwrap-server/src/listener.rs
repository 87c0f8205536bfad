//! The listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Connections that may wait to be accepted: as many as Linux lets wait. Who finds no place tries again after a second.
const BACKLOG: i32 = 4096;

/// A listening socket of one worker.
#[derive(Debug)]
pub enum Listener {
    /// Of an address and a port.
    Tcp(TcpListener),
    /// Of a file.
    Unix(UnixListener),
}

/// Binds one listener for each of `workers`; they share the port, and the kernel spreads the connections.
///
/// # Errors
/// If the address cannot be listened on, or somebody listens there already.
pub fn bind(host: &str, port: u16, workers: usize) -> io::Result<Vec<Listener>> {
    let mut address = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "no such address"))?;
    // The first one does not share: it finds out whether the port is taken.
    let probe = listen(address, false)?;
    address = probe.local_addr()?;
    if workers == 1 {
        return Ok(vec![Listener::Tcp(probe)]);
    }
    drop(probe);
    (0..workers).map(|_| listen(address, true).map(Listener::Tcp)).collect()
}

/// Makes the socket's file, and a handle of the one socket for each of `workers`: whoever is idle accepts. Who may connect
/// is the umask's to say.
///
/// # Errors
/// If the file cannot be made, or is there already.
pub fn bind_unix(path: &Path, workers: usize) -> io::Result<Vec<Listener>> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    (0..workers).map(|_| Ok(Listener::Unix(socket.try_clone()?.into()))).collect()
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Where connections come from.
pub(crate) trait Accept {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl Accept for tokio::net::TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (socket, _) = self.accept().await?;
        // Without this an event waits for the acknowledgement of the one before. It fails if the client has left.
        let _ = socket.set_nodelay(true);
        Ok(socket)
    }
}

impl Accept for tokio::net::UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

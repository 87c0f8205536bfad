//! The listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted: as many as Linux lets wait. Who finds no place tries again after a second.
const BACKLOG: i32 = 4096;

/// Binds one listener for each of `workers`; they share the port, and the kernel spreads the connections.
///
/// # Errors
/// If the address cannot be listened on, or somebody listens there already.
pub fn bind(host: &str, port: u16, workers: usize) -> io::Result<Vec<TcpListener>> {
    let mut address = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "no such address"))?;
    let mut listeners = Vec::with_capacity(workers);
    // The first one does not share: it finds out whether the port is taken.
    let probe = listen(address, false)?;
    address = probe.local_addr()?;
    if workers == 1 {
        return Ok(vec![probe]);
    }
    drop(probe);
    for _ in 0..workers {
        listeners.push(listen(address, true)?);
    }
    Ok(listeners)
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

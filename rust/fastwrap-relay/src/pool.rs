//! Idle connections to the engine, the last one used first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Context;

use crate::connection::Connection;
use fastwrap_clock::now_ns;

/// An idle connection older than this is not used again: uvicorn, the server of most engines, closes them after 5 s,
/// and a request sent just then is lost.
const MAX_IDLE_NS: u64 = 4_000_000_000;

/// As many as were in use at once, until they are too old: thousands of streams that end together find their
/// connections again. Those that were used last are at the back.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<VecDeque<(u64, Connection)>>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an idle connection that is still open and not too old.
    pub(crate) fn take(&self, cx: &mut Context<'_>) -> Option<Connection> {
        let oldest_ns = now_ns().saturating_sub(MAX_IDLE_NS);
        let mut idle = self.lock();
        while let Some((since_ns, mut connection)) = idle.pop_back() {
            if since_ns < oldest_ns {
                // So are all before it.
                return None;
            }
            if connection.is_reusable(cx) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if it can take one.
    pub(crate) fn give(&self, mut connection: Connection, cx: &mut Context<'_>) {
        if !connection.is_reusable(cx) {
            return;
        }
        let now_ns = now_ns();
        self.lock().push_back((now_ns, connection));
        // More than the one that came, so that they become fewer.
        self.close_old(2, now_ns);
    }

    /// Closes at most so many of those that are too old; says whether there may be more of them.
    pub(crate) fn close_old(&self, most: usize, now_ns: u64) -> bool {
        let oldest_ns = now_ns.saturating_sub(MAX_IDLE_NS);
        let mut idle = self.lock();
        for _ in 0..most {
            if idle.front().is_none_or(|(since_ns, _)| *since_ns >= oldest_ns) {
                return false;
            }
            idle.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::stream::{EngineStream, Stamps};
    use crate::upstream::Address;

    /// A pool of so many connections, and their other ends in the order of their return.
    async fn filled(connections: usize) -> (Pool, Vec<TcpStream>) {
        let engine = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = engine.local_addr().unwrap().port();
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port, tls: false };
        let (pool, mut ends) = (Pool::default(), Vec::new());
        for _ in 0..connections {
            let stamps = Arc::new(Stamps::default());
            let stream = EngineStream::connect(&address, None, &stamps).await.unwrap();
            ends.push(engine.accept().await.unwrap().0);
            let mut connection = Some(Connection::new(stream, stamps).await.unwrap());
            poll_fn(|cx| {
                pool.give(connection.take().unwrap(), cx);
                Poll::Ready(())
            })
            .await;
        }
        (pool, ends)
    }

    #[tokio::test]
    async fn old_connections_are_closed_a_few_at_a_time() {
        let (pool, mut ends) = filled(5).await;
        assert!(!pool.close_old(2, now_ns()), "none is old");
        let later_ns = now_ns() + MAX_IDLE_NS + 1;
        assert!(pool.close_old(2, later_ns));
        for end in ends.drain(..2) {
            let mut end = end;
            assert_eq!(end.read(&mut [0]).await.unwrap(), 0, "the oldest are closed first");
        }
        assert_eq!(pool.lock().len(), 3);
        assert!(pool.close_old(2, later_ns));
        assert!(!pool.close_old(2, later_ns));
        assert!(poll_fn(|cx| Poll::Ready(pool.take(cx))).await.is_none());
    }
}

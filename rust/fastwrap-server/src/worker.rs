//! Threads that serve, and their end.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastwrap_relay::{Relay, vital};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::check::Check;
use crate::connection::converse;
use crate::drain::{Drain, Stage};
use crate::listener::{Accept, Listener};
use crate::own::Own;
use crate::service::Service;

/// How long to wait before accepting again when there is no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long stragglers have to be told that they are cut.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the server itself is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// For a client to send its headers, and between two requests on one connection.
    pub header_timeout: Option<Duration>,
    /// Between two pieces of a client's body, and for all of it, if it comes slower than a trickle.
    pub body_timeout: Option<Duration>,
    /// For requests in flight to end when the server is stopped.
    pub grace: Duration,
}

/// A running server.
pub struct Server {
    drain: Arc<Drain>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// Starts a thread for each listener, with a way to the engine of its own.
    ///
    /// # Errors
    /// If a thread or its runtime cannot be made.
    pub fn start(
        listeners: Vec<Listener>,
        relays: Vec<Arc<Relay>>,
        own: &Arc<dyn Own>,
        check: Option<&Arc<dyn Check>>,
        options: Options,
    ) -> io::Result<Self> {
        let drain = Arc::new(Drain::default());
        let mut workers = Vec::with_capacity(listeners.len());
        for (at, (listener, relay)) in listeners.into_iter().zip(relays).enumerate() {
            let service = Service {
                relay,
                own: Arc::clone(own),
                check: check.map(Arc::clone),
                drain: Arc::clone(&drain),
                options,
            };
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let serve = move || {
                vital(|| {
                    let served = runtime.block_on(listen(listener, Arc::new(service)));
                    // A hook that hangs in a thread of the runtime's is not waited for.
                    runtime.shutdown_background();
                    served.is_ok()
                });
            };
            workers.push(thread::Builder::new().name(format!("fastwrap-{at}")).spawn(serve)?);
        }
        Ok(Self { drain, workers: Mutex::new(workers) })
    }

    /// Takes no more requests, waits for those in flight, cuts what is left after the time of grace, and ends.
    pub fn stop(&self) {
        self.drain.enter(Stage::Closing);
        let workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // A panic ends one connection's task; one of the thread's own has ended the process.
            let _ = worker.join();
        }
    }
}

async fn listen(listener: Listener, service: Arc<Service>) -> io::Result<()> {
    match listener {
        Listener::Tcp(listener) => serve(TcpListener::from_std(listener)?, service).await,
        Listener::Unix(listener) => serve(UnixListener::from_std(listener)?, service).await,
    }
    Ok(())
}

async fn serve(listener: impl Accept, service: Arc<Service>) {
    let mut drain = service.drain.subscribe();
    let mut connections = JoinSet::new();
    let tending = tokio::spawn(Arc::clone(&service.relay).tend());
    loop {
        let accepted = tokio::select! {
            biased;
            _ = drain.wait_for(|stage| *stage != Stage::Open) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(socket) => {
                connections.spawn(converse(
                    socket,
                    Arc::clone(&service),
                    service.drain.subscribe(),
                ));
            }
            // The client left before it was accepted, or there is no descriptor left: the next one may do.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    tending.abort();
    let grace = service.options.grace;
    if timeout(grace, all(&mut connections)).await.is_err() {
        service.drain.enter(Stage::Over);
        let _ = timeout(LAST_WORDS, all(&mut connections)).await;
    }
}

async fn all(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

//! One client's connection.

use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::drain::Stage;
use crate::service::Service;

/// Bytes that hyper may buffer beyond the headers that are allowed: the request line, and what was read too far.
const EXTRA_BUFFER_BYTES: usize = 64 << 10;

/// Serves requests until the client leaves, or the server ends.
pub(crate) async fn converse(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    service: Arc<Service>,
    mut drain: watch::Receiver<Stage>,
) {
    let max_header_bytes =
        usize::try_from(service.relay.meter.settings.max_header_bytes).unwrap_or(usize::MAX / 2);
    let timeout = service.options.header_timeout;
    let respond = service_fn(move |request| Arc::clone(&service).serve(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(max_header_bytes + EXTRA_BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), respond);
    let mut connection = pin!(connection);
    let mut stage = Stage::Open;
    loop {
        tokio::select! {
            // An error concerns this client alone: it broke the protocol, or left.
            _ = connection.as_mut() => return,
            changed = drain.changed() => {
                let now = if changed.is_ok() { *drain.borrow() } else { Stage::Over };
                if stage == Stage::Open {
                    connection.as_mut().graceful_shutdown();
                }
                if now == Stage::Over && stage == Stage::Over {
                    return;
                }
                stage = now;
            }
        }
    }
}

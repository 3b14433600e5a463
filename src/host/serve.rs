//! Listening, and stopping in good order.
//!
//! The host gives the port in `FUNCTIONS_CUSTOMHANDLER_PORT` and talks to
//! 127.0.0.1. It never sends SIGTERM (it kills); containers and people do. A run
//! that is cut short loses nothing: what was not saved is sent again.

use std::future::pending;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::Runs;

/// How long a run may go on after the signal to stop. The Functions host and
/// container hosts kill after 10 s.
pub const GRACE: Duration = Duration::from_secs(8);

/// What the process ends with after [`serve`]: as if SIGTERM had killed it.
///
/// Never 0: the host takes 0 for "meant to", starts nothing again, and every
/// later run fails in silence.
pub const EXIT_CODE: u8 = 143;

/// The port the host gave cannot be had. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on 127.0.0.1:{port}")]
pub struct NoPort {
    port: u16,
    source: io::Error,
}

impl NoPort {
    /// What a person should do.
    pub fn next_step(&self) -> &'static str {
        "Another process may have this port: end it, or take another port (`serve`: FUNCTIONS_CUSTOMHANDLER_PORT, which the Functions host sets; `demo`: --port, or none for any that is free)."
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stopped {
    /// No run was left.
    Idle,
    /// A run was still under way when its time was over. The next one does
    /// again what it had not saved.
    RunAbandoned,
}

/// Takes the port; requests queue until [`serve`]. Call before anything slow:
/// the host waits 30 s for the first answer. Port 0 takes any that is free.
///
/// # Errors
///
/// [`NoPort`] when another process has it.
pub async fn bind(port: u16) -> Result<TcpListener, NoPort> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|source| NoPort { port, source })
}

/// Serves until `stop`, then takes no more connections and gives a run under
/// way 8 s to end and be answered for.
pub async fn serve(
    socket: TcpListener,
    router: Router,
    runs: Runs,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Stopped {
    let (stopping, stopped) = oneshot::channel::<()>();
    let server = axum::serve(socket, router).with_graceful_shutdown(async move {
        stop.await;
        info!("asked to stop");
        drop(stopping);
    });
    let in_order = async {
        if let Err(error) = server.await {
            error!(%error, "the server ended by itself");
        }
        runs.close().await;
    };
    let overtime = async {
        // Nothing is ever sent: it ends when the sender is dropped.
        if stopped.await.is_err() {
            drop(timeout(GRACE, pending::<()>()).await);
        }
    };
    tokio::select! {
        () = in_order => Stopped::Idle,
        () = overtime => {
            if runs.busy() {
                warn!("stopped in the middle of a run; the next one does again what was not saved");
                Stopped::RunAbandoned
            } else {
                Stopped::Idle
            }
        }
    }
}

/// Ends when the process is asked to stop: Ctrl-C, or SIGTERM where there is
/// such a thing.
#[cfg(unix)]
pub async fn stop_signal() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            () = interrupt() => {}
        },
        Err(error) => {
            error!(%error, "SIGTERM cannot be caught; only Ctrl-C stops in good order");
            interrupt().await;
        }
    }
}

/// Ends when the process is asked to stop: Ctrl-C.
#[cfg(not(unix))]
pub async fn stop_signal() {
    interrupt().await;
}

async fn interrupt() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        error!(%error, "Ctrl-C cannot be caught");
        pending::<()>().await;
    }
}

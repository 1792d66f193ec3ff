//! Keeps `DATA/ports.json` true: written once the host is ready, and at each change.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::registry::{Registry, View};
use crate::store::{DataDir, Ports};

/// Writes the file, and starts a task that writes it again whenever a port changes.
pub(super) async fn keep(
    data: &Arc<DataDir>,
    registry: &Arc<Registry>,
    (api, bus): (u16, u16),
    listen: &[SocketAddr],
    started_at: Timestamp,
) -> JoinHandle<()> {
    let (data, registry) = (Arc::clone(data), Arc::clone(registry));
    let (mut changes, listen) = (registry.changes(), listen.to_vec());
    let ports = move |view: &View| Ports {
        api,
        bus,
        listen: listen.clone(),
        started_at,
        plugins: view.plugins().map(|record| (record.entry.name.clone(), record.own_port())).collect(),
        ..Ports::of_this_process()
    };
    let mut written = ports(&registry.view());
    write(&data, &written).await;
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            let now = ports(&registry.view());
            if now != written {
                write(&data, &now).await;
                written = now;
            }
        }
    })
}

async fn write(data: &Arc<DataDir>, ports: &Ports) {
    let (data, ports) = (Arc::clone(data), ports.clone());
    match tokio::task::spawn_blocking(move || data.write_ports(&ports)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "`ports.json` could not be written"),
        Err(error) => warn!(%error, "`ports.json` could not be written"),
    }
}

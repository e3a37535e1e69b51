//! The ports: bound before anything else is touched, served once the shop stands, closed first.

use std::{net::SocketAddr, sync::Arc};

use anyhow::anyhow;
use contracts::Service;
use http_edge::{
    gateway::gateway,
    routing::Routes,
    server::{self, Limits},
    service_port::service_port,
    shop::Shop,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::config::{PortSetting, Settings};

/// The listeners, bound and not yet served.
pub struct Listeners {
    gateway: Option<TcpListener>,
    services: Vec<(Service, TcpListener)>,
}

/// The ports being served.
pub struct Open {
    close: watch::Sender<bool>,
    serving: JoinSet<()>,
}

/// Binds the ports of this process.
///
/// # Errors
/// The first that cannot be had, in one sentence.
pub async fn bind(settings: &Settings) -> anyhow::Result<Listeners> {
    let host = settings.host;
    let bind_one = async |setting: &PortSetting| {
        let address = SocketAddr::new(host, setting.port);
        server::bind(address, setting.name).await.map_err(|error| anyhow!("{error}"))
    };
    let gateway = match &settings.gateway {
        Some(setting) => Some(bind_one(setting).await?),
        None => None,
    };
    let mut services = Vec::with_capacity(settings.services.len());
    for (service, setting) in &settings.services {
        services.push((*service, bind_one(setting).await?));
    }
    Ok(Listeners { gateway, services })
}

/// Serves the ports.
pub fn open(listeners: Listeners, shop: &Arc<Shop>) -> Open {
    let (close, closing) = watch::channel(false);
    let mut serving = JoinSet::new();
    let mut serve = |listener: TcpListener, routes: Routes| {
        let mut closing = closing.clone();
        serving.spawn(async move {
            let until_closing = async move { drop(closing.wait_for(|closing| *closing).await) };
            let drained = server::serve(listener, routes, Limits::default(), until_closing).await;
            if drained.cut_connections > 0 {
                tracing::warn!(connections = drained.cut_connections, "still busy at the deadline; cut");
            }
        });
    };
    if let Some(listener) = listeners.gateway {
        serve(listener, gateway(Arc::clone(shop)));
    }
    for (service, listener) in listeners.services {
        serve(listener, service_port(service, Arc::clone(shop)));
    }
    Open { close, serving }
}

impl Open {
    /// Stops accepting, finishes what is accepted, within the edge's deadline.
    pub async fn close(mut self) {
        self.close.send_replace(true);
        while self.serving.join_next().await.is_some() {}
    }
}

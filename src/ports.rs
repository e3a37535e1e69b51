//! The ports: bound and served before anything else is touched, switched over to the shop once it stands, closed first.

use std::{net::SocketAddr, sync::Arc};

use anyhow::anyhow;
use contracts::Service;
use http_edge::{
    gateway::{self, gateway},
    server::{self, Limits},
    service_port::service_port,
    shop::Shop,
    starting::{Served, StartProgress, starting},
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
    gateway: Option<Served>,
    services: Vec<(Service, Served)>,
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

/// Serves the ports: until [`Open::switch_to`] they say how far the start has come.
pub fn open(listeners: Listeners, progress: &Arc<StartProgress>) -> Open {
    let (close, closing) = watch::channel(false);
    let mut serving = JoinSet::new();
    let needed: Vec<Service> = listeners.services.iter().map(|(service, _)| *service).collect();
    let mut serve = |listener: TcpListener, name: &'static str, needed: Vec<Service>| {
        let served = Served::until_switched(starting(name, needed, Arc::clone(progress)));
        let (mut closing, routes) = (closing.clone(), served.clone());
        serving.spawn(async move {
            let until_closing = async move { drop(closing.wait_for(|closing| *closing).await) };
            let drained = server::serve(listener, routes, Limits::default(), until_closing).await;
            if drained.cut_connections > 0 {
                tracing::warn!(connections = drained.cut_connections, "still busy at the deadline; cut");
            }
        });
        served
    };
    let gateway = listeners.gateway.map(|listener| serve(listener, gateway::NAME, needed));
    let services = listeners.services.into_iter();
    let services =
        services.map(|(service, listener)| (service, serve(listener, service.name(), vec![service]))).collect();
    Open { close, serving, gateway, services }
}

impl Open {
    /// From now on the same ports answer with the shop.
    pub fn switch_to(&self, shop: &Arc<Shop>) {
        for (service, served) in &self.services {
            served.switch_to(service_port(*service, Arc::clone(shop)));
        }
        if let Some(served) = &self.gateway {
            served.switch_to(gateway(Arc::clone(shop)));
        }
    }

    /// Stops accepting, finishes what is accepted, within the edge's deadline.
    pub async fn close(mut self) {
        self.close.send_replace(true);
        while self.serving.join_next().await.is_some() {}
    }
}

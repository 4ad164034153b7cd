//! `service explain`: the way from the objects to the kernel, and why endpoints are left out. Pure.

mod why;

use std::{collections::BTreeSet, net::IpAddr};

use mesh_common::{FrontendKey, FrontendValue, Port};

use super::views;
use crate::{
    desired::{Family, PortId, Target},
    engine::{PortView, ServiceView},
    model::{
        Endpoint, EndpointSlice, Pod, PodPhase, Service, ServicePort, ServiceType, TargetPort,
    },
    store::Store,
    telemetry::{
        dump::range,
        view::{BackendView, ExplainView, StepView},
    },
};
use why::Rules;

/// A Service with the endpoints that get nothing, too.
pub(super) fn explain(store: &Store, view: &ServiceView) -> ExplainView {
    let mut service = views::service(view);
    for (shown, port) in service.ports.iter_mut().zip(&view.ports) {
        let used = shown.backends.iter().map(|backend| backend.address);
        let used: BTreeSet<IpAddr> = used.collect();
        let left_out = left_out(store, view, port);
        let left_out = left_out.filter(|backend| !used.contains(&backend.address));
        shown.backends.extend(left_out);
        if let Some(rules) = rules(store, view, port) {
            for backend in &mut shown.backends {
                tell(&rules, backend);
            }
        }
    }
    ExplainView {
        steps: steps(store, view),
        service,
    }
}

fn rules(store: &Store, view: &ServiceView, port: &PortView) -> Option<Rules> {
    let service = store.service(&view.name)?;
    Rules::of(store, service, port)
}

/// What the rules say of an endpoint says more than its state.
fn tell(rules: &Rules, backend: &mut BackendView) {
    let target = Target {
        address: backend.address.into(),
        port: Port::new(backend.port),
    };
    if let Some(why) = rules.why(&target) {
        backend.why = Some(why);
    }
}

fn steps(store: &Store, view: &ServiceView) -> Vec<StepView> {
    let step = |stage: &str, text: String| StepView {
        stage: stage.to_owned(),
        text,
    };
    let service = store.service(&view.name);
    let mut steps = vec![step("objects", sources(store, view, service))];
    steps.extend(service.and_then(nothing).map(|text| step("desired", text)));
    for port in &view.ports {
        let name = format!("{} {}", port.id.protocol.name(), port.id.port);
        let lines = rules(store, view, port).map(|rules| rules.lines());
        let lines = lines.into_iter().flatten();
        steps.extend(lines.map(|line| step("policy", format!("{name}: {line}"))));
        let slots = port
            .backends
            .iter()
            .filter(|backend| backend.slot.or(backend.local_slot).is_some());
        let ready = slots.count();
        let rest = port.backends.len() - ready;
        steps.push(step(
            "desired",
            format!("{name}: {ready} backends get new connections, {rest} keep what they have"),
        ));
        let place = views::place(port.service, port.set, Some(port.local_set));
        steps.push(step("kernel", format!("{name}: {place}")));
        let frontends = port.frontends.iter();
        steps.extend(
            frontends.map(|held| step("frontend", format!("{name}: {}", frontend(port, held)))),
        );
    }
    let problems = view.findings.iter();
    steps.extend(problems.map(|finding| step("problem", finding.to_string())));
    steps
}

/// What the endpoints come from.
fn sources(store: &Store, view: &ServiceView, service: Option<&Service>) -> String {
    let slices = store.slices_of(&view.name);
    let (slices, endpoints) = slices.fold((0, 0), |(slices, all), slice: &EndpointSlice| {
        (slices + 1, all + slice.endpoints.len())
    });
    match service {
        _ if slices > 0 => format!("{endpoints} endpoints in {slices} EndpointSlices"),
        None => "the Service is gone; what is left keeps its connections".to_owned(),
        Some(service) if service.service_type == ServiceType::ExternalName => {
            "an ExternalName: it has no endpoints".to_owned()
        }
        Some(service) if service.selector.is_empty() => {
            "no EndpointSlice and no selector: it has no endpoints".to_owned()
        }
        Some(service) => format!(
            "no EndpointSlice, so endpoints are made from the {} Pods that the selector matches",
            store.pods_of(service).count()
        ),
    }
}

/// Why nothing of a Service is in the kernel.
fn nothing(service: &Service) -> Option<String> {
    let text = if service.service_type == ServiceType::ExternalName {
        "an ExternalName is a matter of DNS: nothing is programmed"
    } else if service.cluster_ips.is_empty() {
        "the Service has no ClusterIP: nothing is programmed"
    } else if service.ports.is_empty() {
        "the Service has no port that is served: its ClusterIP refuses every connection"
    } else {
        return None;
    };
    Some(text.to_owned())
}

/// A frontend, and whom it is for.
fn frontend(port: &PortView, (key, value): &(FrontendKey, FrontendValue)) -> String {
    let ranges: Vec<String> = port.ranges.iter().copied().map(range).collect();
    let whom = if value.has_source_ranges() {
        format!("for clients in {}", ranges.join(", "))
    } else if value.is_for_host() {
        "for the host's own clients".to_owned()
    } else if value.is_external() {
        "for clients inside and outside the cluster".to_owned()
    } else {
        "for clients of the cluster".to_owned()
    };
    format!("{}, {whom}", views::frontend(key))
}

/// The endpoints of a port that the Service's slices, or without slices its Pods, would have, each with the reason why
/// it is not used.
fn left_out<'a>(
    store: &'a Store,
    view: &'a ServiceView,
    port: &'a PortView,
) -> impl Iterator<Item = BackendView> + 'a {
    let slices: Vec<&EndpointSlice> = store.slices_of(&view.name).collect();
    let service = store.service(&view.name).filter(|_| slices.is_empty());
    let pods = service.into_iter().flat_map(move |service| {
        let pods = store.pods_of(service);
        pods.filter_map(move |pod| pod_left_out(pod, service, &port.id))
    });
    let slices = slices
        .into_iter()
        .flat_map(move |slice| slice_left_out(slice, port));
    slices.chain(pods)
}

fn slice_left_out<'a>(
    slice: &'a EndpointSlice,
    port: &'a PortView,
) -> impl Iterator<Item = BackendView> + 'a {
    let own = slice
        .ports
        .iter()
        .find(|own| *own.name == *port.name && own.protocol == port.id.protocol);
    let number = own.map(|own| own.port);
    let endpoints = slice.endpoints.iter();
    endpoints
        .filter(|endpoint| is_of(endpoint.address, port.id.family))
        .map(move |endpoint| excluded(endpoint.address, number, why_endpoint(endpoint, number)))
}

fn why_endpoint(endpoint: &Endpoint, port: Option<u16>) -> String {
    match (port, endpoint.ready, endpoint.terminating) {
        (None, _, _) => "its slice has no port of this name and protocol",
        (Some(_), false, true) => "it is terminating",
        (Some(_), false, false) => "it is not ready",
        (Some(_), true, _) => "it waits to be written",
    }
    .to_owned()
}

/// A Pod without an address of the family is shown only if it has none at all: else it is an endpoint of the other.
fn pod_left_out(pod: &Pod, service: &Service, id: &PortId) -> Option<BackendView> {
    let port = service
        .ports
        .iter()
        .find(|port| port.port == id.port && port.protocol == id.protocol)?;
    let number = target(pod, port);
    let address = pod
        .addresses
        .iter()
        .find(|address| is_of(**address, id.family));
    let unspecified = match id.family {
        Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    match address {
        None if !pod.addresses.is_empty() => None,
        None => Some(excluded(
            unspecified,
            number,
            format!("Pod {} has no address yet", pod.name),
        )),
        Some(address) => Some(excluded(*address, number, why_pod(pod, number))),
    }
}

fn target(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let own = pod.ports.iter();
            let mut own = own.filter(|own| own.name == *name && own.protocol == port.protocol);
            own.next().map(|own| own.port)
        }
    }
}

fn why_pod(pod: &Pod, port: Option<u16>) -> String {
    let why = if matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) {
        "has ended"
    } else if port.is_none() {
        "has no port of the name that targetPort gives"
    } else if pod.terminating {
        "is terminating"
    } else if pod.ready {
        "waits to be written"
    } else {
        "is not ready"
    };
    format!("Pod {} {why}", pod.name)
}

fn is_of(address: IpAddr, family: Family) -> bool {
    address.is_ipv4() == (family == Family::V4)
}

fn excluded(address: IpAddr, port: Option<u16>, why: String) -> BackendView {
    BackendView {
        id: None,
        address,
        port: port.unwrap_or(0),
        state: "excluded".to_owned(),
        generation: None,
        slot: None,
        local_slot: None,
        why: Some(why),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::model::{ContainerPort, ObjectId, ObjectName, Protocol, TrafficPolicy};

    fn pod() -> Pod {
        Pod {
            name: ObjectName::new("a", "web-1"),
            created: None,
            labels: BTreeMap::new(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            phase: PodPhase::Running,
            ready: true,
            terminating: false,
            node: None,
            host_network: false,
            ports: vec![ContainerPort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 8080,
                host: None,
            }],
        }
    }

    fn service(target: TargetPort) -> Service {
        Service {
            name: ObjectName::new("a", "web"),
            created: None,
            service_type: ServiceType::ClusterIp,
            cluster_ips: vec!["10.96.0.1".parse().unwrap()],
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: BTreeSet::new(),
            external_policy: TrafficPolicy::Cluster,
            internal_policy: TrafficPolicy::Cluster,
            ports: vec![ServicePort {
                name: Arc::default(),
                protocol: Protocol::Tcp,
                port: 80,
                target,
                node_port: None,
            }],
            selector: BTreeMap::new(),
            affinity_seconds: None,
            publish_not_ready: false,
            distribution: None,
            health_check_port: None,
        }
    }

    #[test]
    fn each_pod_that_is_left_out_has_its_reason() {
        let named = service(TargetPort::Name("http".into()));
        let id = |family| PortId {
            owner: ObjectId::service(&named.name),
            family,
            protocol: Protocol::Tcp,
            port: 80,
        };
        let why = |pod: &Pod, service: &Service| {
            let view = pod_left_out(pod, service, &id(Family::V4)).unwrap();
            (view.port, view.why.unwrap())
        };
        let unready = Pod {
            ready: false,
            ..pod()
        };
        assert_eq!(
            why(&unready, &named),
            (8080, "Pod a/web-1 is not ready".to_owned())
        );
        let ended = Pod {
            phase: PodPhase::Failed,
            ..pod()
        };
        assert_eq!(why(&ended, &named).1, "Pod a/web-1 has ended");
        let other = service(TargetPort::Name("metrics".into()));
        let reason = "Pod a/web-1 has no port of the name that targetPort gives";
        assert_eq!(why(&pod(), &other), (0, reason.to_owned()));
        let new = Pod {
            addresses: Vec::new(),
            ..pod()
        };
        assert_eq!(why(&new, &named).1, "Pod a/web-1 has no address yet");
        assert!(pod_left_out(&pod(), &named, &id(Family::V6)).is_none());
    }

    #[test]
    fn what_has_no_endpoints_says_why() {
        let store = Store::default();
        let view = |service: &Service| ServiceView {
            name: service.name.clone(),
            service_type: Some(service.service_type),
            cluster_ips: service.cluster_ips.clone(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            policies: None,
            health_check_port: None,
            ports: Vec::new(),
            findings: Vec::new(),
        };
        let external = Service {
            service_type: ServiceType::ExternalName,
            ..service(TargetPort::Number(80))
        };
        assert_eq!(
            sources(&store, &view(&external), Some(&external)),
            "an ExternalName: it has no endpoints"
        );
        let without = service(TargetPort::Number(80));
        assert_eq!(
            sources(&store, &view(&without), Some(&without)),
            "no EndpointSlice and no selector: it has no endpoints"
        );
        let portless = Service {
            ports: Vec::new(),
            ..without
        };
        assert!(nothing(&portless).is_some_and(|text| text.contains("refuses every connection")));
    }
}

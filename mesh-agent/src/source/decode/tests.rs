//! Bad input, line by line, and that no bytes make the decoder panic.

use proptest::prelude::*;

use super::*;
use crate::model::{HostPort, Kind, TargetPort, TrafficDistribution, TrafficPolicy};

fn yaml(text: &str) -> Decoded {
    decode(
        "a.yaml",
        text.as_bytes(),
        &Options::default(),
        &mut Interner::default(),
    )
}

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\n")
}

fn slice(rest: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, labels: \
         {{kubernetes.io/service-name: web}}}}\n{rest}\n"
    )
}

#[test]
fn each_mistake_is_one_line_that_names_it() {
    let at = "a.yaml:1: Service default/web: ";
    let slice_at = "a.yaml:1: EndpointSlice default/web-1: ";
    let cases = [
        (service("{clusterIP: 10.96.0.1, colour: red}"), format!("{at}spec.colour: there is no such field; correct its name or remove it")),
        (service("{ports: [{port: eighty}]}"), format!("{at}spec.ports[0].port: invalid type: string \"eighty\", expected i32; give the type that the API has")),
        (service("{clusterIP: 10.96.0.300}"), format!("{at}spec.clusterIP: \"10.96.0.300\" is no IP address; give an IPv4 or IPv6 address")),
        (service("{ports: [{port: 0}]}"), format!("{at}spec.ports[0].port: 0 is no port; give 1 to 65535")),
        (service("{ports: [{name: a, port: 1}, {name: a, port: 2}]}"), format!("{at}spec.ports[1].name: two ports are called \"a\"; give each port its own name")),
        (service("{ports: [{name: a, port: 1}, {name: b, port: 1}]}"), format!("{at}spec.ports[1].port: TCP 1 is there twice; give each port its own number")),
        (service("{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}}"), format!("{at}spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is out of range; give 1 to 86400")),
        (slice("addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]"), format!("{slice_at}endpoints[0].addresses[0]: fd00::1 is not of the slice's addressType; put each family into slices of its own")),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: Web}\nspec: {}\n".to_owned(), "a.yaml:1: Service default/Web: metadata.name: \"Web\" is no name; give lower case letters, digits and '-', 63 at most".to_owned()),
        ("kind: Service\n".to_owned(), "a.yaml:1: Service without a name: apiVersion: a manifest has apiVersion and kind; add what is missing".to_owned()),
        ("- 1\n".to_owned(), "a.yaml:1: object without a name: it is no object with apiVersion and kind; write it as kubectl prints it".to_owned()),
        ("- v1\n- Service\n".to_owned(), "a.yaml:1: object without a name: it is no object with apiVersion and kind; write it as kubectl prints it".to_owned()),
        ("words\n".to_owned(), "a.yaml:1: object without a name: it is no object with apiVersion and kind; write it as kubectl prints it".to_owned()),
        (service("{clusterIP: 127.0.0.1}"), format!("{at}spec.clusterIP: 127.0.0.1 means another place on each node; give an address that no host has")),
        (service("{clusterIPs: ['fe80::1']}"), format!("{at}spec.clusterIPs[0]: fe80::1 means another place on each node; give an address that no host has")),
        ("apiVersion: v2\nkind: Service\nmetadata: {name: web}\n".to_owned(), format!("{at}apiVersion: \"v2\" is not read; Service is of v1; write it in that version")),
        ("apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: web-1}\n".to_owned(), format!("{slice_at}apiVersion: \"discovery.k8s.io/v1beta1\" is not read; EndpointSlice is of discovery.k8s.io/v1; write it in that version")),
        ("apiVersion: v1\nkind: service\nmetadata: {name: web}\n".to_owned(), "a.yaml:1: service default/web: kind: \"service\" is no kind, but Service is; write it as the API does".to_owned()),
        ("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\nspec: {podSelector: {}}\n".to_owned(), "a.yaml:1: NetworkPolicy default/deny: this version of the agent enforces no policies; have another enforce it".to_owned()),
        ("kind: List\nitems: 7\n".to_owned(), "a.yaml:1: object without a name: items: it is no array; give an array of objects".to_owned()),
        ("apiVersion: v1\nkind: Node\nmetadata: {name: 7}\n".to_owned(), "a.yaml:1: Node without a name: metadata.name: invalid type: integer `7`, expected a string; give the type that the API has".to_owned()),
        ("apiVersion: v1\nkind: Node\nmetadata: {name: a..b}\n".to_owned(), "a.yaml:1: Node a..b: metadata.name: \"a..b\" is no name; give lower case letters, digits, '-' and '.'".to_owned()),
        (service("{type: NodePort, ports: [{port: 80, nodePort: 99999}]}"), format!("{at}spec.ports[0].nodePort: 99999 is no port; give 1 to 65535")),
        (service("{type: NodePort, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30080}]}"), format!("{at}spec.ports[1].nodePort: TCP 30080 is there twice; give each port its own number")),
        (service("{externalTrafficPolicy: Near}"), format!("{at}spec.externalTrafficPolicy: \"Near\" is no traffic policy; give Cluster or Local")),
        (service("{ports: [{port: 65536}]}"), format!("{at}spec.ports[0].port: 65536 is no port; give 1 to 65535")),
        (service("{ports: [{name: 'A_', port: 1}]}"), format!("{at}spec.ports[0].name: \"A_\" is no name of a port; give lower case letters, digits and '-', 63 at most")),
        (service("{ports: [{port: 1, protocol: tcp}]}"), format!("{at}spec.ports[0].protocol: \"tcp\" is no protocol; give TCP or UDP")),
        (service("{ports: [{port: 1, targetPort: 0x10000}]}"), format!("{at}spec.ports[0].targetPort: 65536 is no port; give 1 to 65535")),
        (service("{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.2]}"), format!("{at}spec.clusterIPs[0]: \"10.96.0.2\" is not spec.clusterIP, which is \"10.96.0.1\"; give both the same")),
        (service("{clusterIPs: [10.96.0.1, 10.96.0.2]}"), format!("{at}spec.clusterIPs[1]: 10.96.0.2 is the second address of its family; give at most one address of each family")),
        (service("{clusterIP: '::'}"), format!("{at}spec.clusterIP: :: can be nobody's address; give a unicast address")),
        (service("{type: clusterip}"), format!("{at}spec.type: \"clusterip\" is no type of Service; give ClusterIP, NodePort, LoadBalancer or ExternalName")),
        (service("{sessionAffinity: yes}"), format!("{at}spec.sessionAffinity: \"yes\" is no session affinity; give None or ClientIP")),
        (slice("addressType: IPv5"), format!("{slice_at}addressType: \"IPv5\" is no type of address; give IPv4 or IPv6")),
        (slice("addressType: IPv4\nendpoints: [{addresses: []}]"), format!("{slice_at}endpoints[0].addresses: there is none; give one address")),
        (slice("addressType: IPv4\nendpoints: [{addresses: [169.254.1.1]}]"), format!("{slice_at}endpoints[0].addresses[0]: 169.254.1.1 means another place on each node; give an address that every node reaches")),
        (slice("addressType: IPv4\nports: [{name: a, port: 1}, {name: a, port: 2}]"), format!("{slice_at}ports[1].name: two ports are called \"a\"; give each port its own name")),
    ];
    for (text, line) in cases {
        let decoded = yaml(&text);
        assert_eq!(
            decoded
                .problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            [line]
        );
        assert!(decoded.objects.is_empty() && !decoded.unreadable);
    }
}

/// Told, and taken all the same.
#[test]
fn notes_spoil_nothing() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
    let cases = [
        (
            format!(
                "{pod}spec: {{containers: [], brandNew: 1, newer: 2}}\nstatus: {{podIP: 10.0.0.1}}\n"
            ),
            vec![
                "a.yaml:1: Pod default/p: spec.brandNew: there is no such field; correct its name or remove it",
                "a.yaml:1: Pod default/p: spec.newer: there is no such field; correct its name or remove it",
            ],
        ),
        (
            format!("{pod}status: {{podIP: 127.0.0.1}}\n"),
            vec![
                "a.yaml:1: Pod default/p: status.podIP: 127.0.0.1 means another place on each node; give an address that every node reaches",
            ],
        ),
        (
            slice("addressType: IPv4\nendpoints: [{addresses: [127.0.0.1]}]"),
            vec![
                "a.yaml:1: EndpointSlice default/web-1: endpoints[0].addresses[0]: 127.0.0.1 means another place on each node; give an address that every node reaches",
            ],
        ),
    ];
    for (text, lines) in cases {
        let decoded = yaml(&text);
        let told: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told, lines);
        assert_eq!(decoded.objects.len(), 1);
    }
}

#[test]
fn ten_thousand_ports_are_refused() {
    let ports: Vec<String> = (1..=10_000)
        .map(|port| format!("{{name: p{port}, port: {port}}}"))
        .collect();
    let decoded = yaml(&service(&format!("{{ports: [{}]}}", ports.join(", "))));
    assert!(
        decoded.problems[0]
            .to_string()
            .contains("spec.ports: 10000 ports are more than 4096")
    );
    assert_eq!(decoded.bad.len(), 1);
}

#[test]
fn a_bad_object_leaves_its_neighbours_alone() {
    let text = format!(
        "{}---\n{}---\n{}",
        service("{clusterIP: 10.96.0.1}"),
        service("{clusterIP: x}"),
        slice("addressType: IPv4")
    );
    let text = text.replacen("name: web}", "name: first}", 1);
    let decoded = yaml(&text);
    assert_eq!(
        decoded
            .objects
            .iter()
            .map(|object| object.id().kind)
            .collect::<Vec<_>>(),
        [Kind::Service, Kind::EndpointSlice]
    );
    assert_eq!(
        decoded
            .bad
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["Service default/web"]
    );
    assert_eq!(decoded.problems[0].line, Some(6));
}

#[test]
fn a_syntax_error_names_the_line_and_spoils_the_file_alone() {
    let decoded = yaml("apiVersion: v1\nkind: Service\nmetadata: {name: web\n");
    assert!(decoded.unreadable);
    assert!(
        decoded.problems[0].line.is_some_and(|line| line >= 3),
        "{:?}",
        decoded.problems
    );
    let json = decode(
        "a.json",
        b"{\n\"kind\": }",
        &Options::default(),
        &mut Interner::default(),
    );
    assert!(json.unreadable);
    assert_eq!(json.problems[0].line, Some(2));
}

#[test]
fn lists_and_json_are_taken_apart() {
    let text = r#"{"apiVersion":"v1","kind":"List","items":[
        {"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"n"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80,"targetPort":"http"}]}},
        {"apiVersion":"v1","kind":"Service","metadata":{"name":"b"},"spec":{"clusterIP":7}},
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"c"},"spec":{"anything":1}}]}"#;
    let decoded = decode(
        "a.json",
        text.as_bytes(),
        &Options::default(),
        &mut Interner::default(),
    );
    assert_eq!(decoded.objects.len(), 1);
    let Object::Service(service) = &decoded.objects[0] else {
        panic!("no Service")
    };
    assert_eq!(service.name.to_string(), "n/a");
    assert_eq!(service.ports[0].target, TargetPort::Name("http".into()));
    assert!(
        decoded.problems[0]
            .to_string()
            .starts_with("a.json:3: Service default/b: spec.clusterIP: invalid type"),
        "{}",
        decoded.problems[0]
    );
    assert_eq!(decoded.problems.len(), 1);
    let unused: Vec<_> = decoded.unused.into_iter().collect();
    assert_eq!(unused, ["Deployment (apps/v1)"]);
}

#[test]
fn pods_are_told_apart_by_their_uids() {
    let text = slice(
        "addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.1.1.1], targetRef: {kind: Pod, name: a, uid: u-1}}, {addresses: [10.1.1.2], targetRef: {kind: Pod, name: a, uid: u-2}}, {addresses: [10.1.1.3], targetRef: {kind: Pod, name: b, uid: u-1}}, {addresses: [10.1.1.4], targetRef: {kind: Pod, name: b}}, {addresses: [10.1.1.5]}]",
    );
    let Some(Object::EndpointSlice(slice)) = yaml(&text).objects.pop() else {
        panic!("no slice")
    };
    let pods: Vec<_> = slice.endpoints.iter().map(|it| it.pod).collect();
    assert!(pods[0].is_some() && pods[1].is_some() && pods[0] != pods[1]);
    assert_eq!(pods[0], pods[2]);
    assert_eq!(pods[3..], [None, None]);
}

#[test]
fn defaults_are_the_apis() {
    let text = slice(
        "addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.1.1.1]}, {addresses: [10.1.1.2], conditions: {ready: false, terminating: true}}]",
    );
    let Some(Object::EndpointSlice(slice)) = yaml(&text).objects.pop() else {
        panic!("no slice")
    };
    let conditions: Vec<_> = slice
        .endpoints
        .iter()
        .map(|it| (it.ready, it.serving, it.terminating))
        .collect();
    assert_eq!(conditions, [(true, true, false), (false, true, true)]);
    let text = service(
        "{clusterIP: 10.96.0.1, sessionAffinity: ClientIP, ports: [{port: 53, protocol: SCTP}, {name: b, port: 80}]}",
    );
    let decoded = yaml(&text);
    let Object::Service(service) = &decoded.objects[0] else {
        panic!("no Service")
    };
    assert_eq!(service.affinity_seconds, Some(10_800));
    assert_eq!(service.ports.len(), 1);
    assert!(
        decoded.problems[0]
            .to_string()
            .contains("SCTP is not served")
    );
}

#[test]
fn what_is_not_ours_is_left_alone() {
    assert_eq!(yaml(&slice("addressType: FQDN")).objects.len(), 0);
    let labelled = service("{clusterIP: 10.96.0.1}").replace(
        "name: web",
        "name: web, labels: {service.kubernetes.io/service-proxy-name: other}",
    );
    assert_eq!(yaml(&labelled), Decoded::default());
    let options = Options {
        proxy_name: Some("other".to_owned()),
    };
    assert_eq!(
        decode(
            "a.yaml",
            labelled.as_bytes(),
            &options,
            &mut Interner::default()
        )
        .objects
        .len(),
        1
    );
    let Some(Object::Service(headless)) = yaml(&service("{clusterIP: None, clusterIPs: [None]}"))
        .objects
        .pop()
    else {
        panic!("no Service")
    };
    assert!(headless.cluster_ips.is_empty());
}

proptest! {
    /// Any bytes, and any bytes in the middle of a good manifest.
    #[test]
    fn nothing_panics(json: bool, at in 0_usize..400, bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let file = if json { "a.json" } else { "a.yaml" };
        let mut text = if json {
            br#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80}]}}"#.to_vec()
        } else {
            slice("addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.1.1.1]}]").into_bytes()
        };
        let at = at.min(text.len());
        text.splice(at..(at + bytes.len()).min(text.len()), bytes.iter().copied());
        for input in [&text, &bytes] {
            let decoded = decode(file, input, &Options::default(), &mut Interner::default());
            prop_assert!(!decoded.unreadable || decoded.objects.is_empty());
        }
    }
}

fn json(text: &str) -> Decoded {
    decode(
        "a.json",
        text.as_bytes(),
        &Options::default(),
        &mut Interner::default(),
    )
}

/// Each level of nesting costs stack, each alias may multiply what is in memory.
#[test]
fn files_that_nest_or_multiply_without_end_are_refused() {
    let indented: String = (0..3000)
        .map(|n| format!("{}a:\n", " ".repeat(n)))
        .collect();
    let ten = |of: usize| vec![format!("*a{of}"); 10].join(",");
    let multiplied: String = (1..12)
        .map(|n| format!("a{n}: &a{n} [{}]\n", ten(n - 1)))
        .collect();
    for text in [
        "[".repeat(100_000),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        "- ".repeat(100_000),
        indented,
        format!("a0: &a0 [x]\n{multiplied}"),
    ] {
        let decoded = yaml(&text);
        assert!(decoded.unreadable && decoded.problems.len() == 1);
    }
    let lists = |depth| {
        let open = r#"{"apiVersion":"v1","kind":"List","items":["#;
        format!("{}{}", open.repeat(depth), "]}".repeat(depth))
    };
    assert_eq!(json(&lists(3)), Decoded::default());
    assert_eq!(
        json(&lists(20_000)).problems[0].to_string(),
        "a.json:1: object without a name: items: lists within lists without end; unfold them"
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let service = format!(
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"a"}},"spec":{deep}}}"#
    );
    for text in [deep, service] {
        assert_eq!(json(&text).problems.len(), 1);
    }
}

#[test]
fn lines_are_short_and_few_however_wrong_the_file_is() {
    let long = yaml(&service(&format!(
        "{{clusterIP: {}}}",
        "x".repeat(1_000_000)
    )));
    assert!(long.problems[0].to_string().len() < 500);
    let items = vec!["7"; 5000].join(",");
    let many = json(&format!(r#"{{"kind":"List","items":[{items}]}}"#));
    assert_eq!(many.problems.len(), MOST_PROBLEMS + 1);
    assert_eq!(
        many.problems[MOST_PROBLEMS].to_string(),
        "a.json: 4900 more problems; mend the others first"
    );
}

/// As `kubectl get -o yaml` and `kubectl get --raw` print them.
#[test]
fn what_kubectl_prints_is_taken_as_it_is() {
    let text = "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    creationTimestamp: \"2026-01-01T00:00:00Z\"\n    \
        generateName: web-\n    labels:\n      app: web\n    managedFields:\n    - apiVersion: v1\n      fieldsType: FieldsV1\n      fieldsV1:\n        \
        f:metadata:\n          f:labels:\n            .: {}\n      manager: kubelet\n      operation: Update\n      subresource: status\n      \
        time: \"2026-01-01T00:00:00Z\"\n    name: web-0\n    namespace: shop\n    ownerReferences:\n    - apiVersion: apps/v1\n      \
        blockOwnerDeletion: true\n      controller: true\n      kind: ReplicaSet\n      name: web\n      uid: x\n  spec:\n    containers:\n    \
        - image: web\n      name: web\n      ports:\n      - containerPort: 8080\n        name: http\n        protocol: TCP\n      \
        - containerPort: 9\n        protocol: SCTP\n      resources: {}\n    hostNetwork: true\n    nodeName: one\n  status:\n    conditions:\n    \
        - lastProbeTime: null\n      status: \"True\"\n      type: Ready\n    hostIP: 192.0.2.7\n    hostIPs:\n    - ip: 192.0.2.7\n    - ip: 2001:db8::7\n    \
        phase: Running\nkind: List\nmetadata:\n  resourceVersion: \"\"\n";
    let mut decoded = yaml(text);
    assert!(decoded.problems.is_empty(), "{:?}", decoded.problems);
    let Some(Object::Pod(pod)) = decoded.objects.pop() else {
        panic!("no Pod")
    };
    assert_eq!(pod.name.to_string(), "shop/web-0");
    assert!(pod.ready && !pod.terminating);
    assert_eq!(pod.addresses.len(), 2);
    assert_eq!(pod.ports.len(), 1);
    let raw = r#"{"kind":"NodeList","apiVersion":"v1","metadata":{},"items":[{"metadata":{"name":"one","labels":
        {"topology.kubernetes.io/zone":"a"}},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.7"},{"type":"Hostname","address":"one"}]}}]}"#;
    let Some(Object::Node(node)) = json(raw).objects.pop() else {
        panic!("no Node")
    };
    assert_eq!(node.addresses.len(), 1);
    assert_eq!(node.zone.as_deref(), Some("a"));
}

#[test]
fn the_examples_are_good() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/demo");
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with(".yaml") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let decoded = decode(name, &bytes, &Options::default(), &mut Interner::default());
        assert!(!decoded.objects.is_empty() && decoded.problems.is_empty());
    }
}

/// Everything that clients outside the cluster ask for; what cannot be used is told, and the rest is served.
#[test]
fn what_is_for_clients_outside_is_read_part_by_part() {
    let spec = "{type: LoadBalancer, clusterIP: 10.96.0.1, externalIPs: [203.0.113.7, 203.0.113.7, 127.0.0.1], \
                loadBalancerSourceRanges: ['198.51.100.7/24 ', nowhere], externalTrafficPolicy: Local, \
                ports: [{port: 80, nodePort: 30080}]}";
    let status = "status: {loadBalancer: {ingress: [{ip: 203.0.113.8}, {ip: 203.0.113.9, ipMode: Proxy}, \
                  {hostname: lb.example}, {ip: 203.0.113.10, ipMode: VIP}, {ip: 203.0.113.11, ipMode: Other}]}}\n";
    let decoded = yaml(&(service(spec) + status));
    let Object::Service(service) = &decoded.objects[0] else {
        panic!("no Service")
    };
    let texts = |addresses: &[std::net::IpAddr]| -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    };
    assert_eq!(texts(&service.external_ips), ["203.0.113.7"]);
    let balanced = texts(&service.load_balancer_ips);
    assert_eq!(balanced, ["203.0.113.8", "203.0.113.10"]);
    let ranges: Vec<String> = service
        .source_ranges
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ranges, ["198.51.100.0/24"]);
    assert_eq!(service.external_policy, TrafficPolicy::Local);
    assert_eq!(service.internal_policy, TrafficPolicy::Cluster);
    assert_eq!(service.ports[0].node_port, Some(30080));
    let told: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
    let at = "a.yaml:1: Service default/web: ";
    assert_eq!(
        told,
        [
            format!(
                "{at}spec.externalIPs[2]: 127.0.0.1 means another place on each node; give an address that no host has"
            ),
            format!(
                "{at}status.loadBalancer.ingress[4].ipMode: \"Other\" is no mode, so 203.0.113.11 is not served; give VIP or Proxy"
            ),
            format!(
                "{at}spec.loadBalancerSourceRanges[1]: \"nowhere\" is no range of addresses; the others count; give ADDRESS/BITS, for example 192.0.2.0/24"
            ),
        ]
    );
}

#[test]
fn a_node_port_needs_a_type_that_has_some() {
    let decoded = yaml(&service(
        "{clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}",
    ));
    let Object::Service(service) = &decoded.objects[0] else {
        panic!("no Service")
    };
    assert_eq!(service.ports[0].node_port, None);
    let told = decoded.problems[0].to_string();
    assert!(
        told.contains("spec.ports[0].nodePort: 30080 is not served: the type is ClusterIP"),
        "{told}"
    );
}

#[test]
fn host_ports_are_read() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, creationTimestamp: '2026-01-01T00:00:00Z'}\nspec: {nodeName: one, \
                containers: [{name: a, ports: [{containerPort: 80, hostPort: 8080}, {containerPort: 81, hostPort: 8081, hostIP: 192.0.2.1}, \
                {containerPort: 82}, {containerPort: 83, hostPort: 8083, hostIP: 127.0.0.1}]}]}\n";
    let decoded = yaml(text);
    let Object::Pod(pod) = &decoded.objects[0] else {
        panic!("no Pod")
    };
    let hosts: Vec<_> = pod.ports.iter().map(|port| port.host).collect();
    let host = |port, address: Option<&str>| {
        let address = address.map(|address| address.parse().unwrap());
        Some(HostPort { port, address })
    };
    assert_eq!(
        hosts,
        [
            host(8080, None),
            host(8081, Some("192.0.2.1")),
            None,
            host(8083, Some("127.0.0.1"))
        ]
    );
    assert!(pod.created.is_some() && !pod.host_network);
    assert!(decoded.problems.is_empty(), "{:?}", decoded.problems);
}

#[test]
fn hints_are_kept_by_kind() {
    let text = slice(
        "addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.1.1.1], hints: {forZones: [{name: a}, {name: b}]}}, {addresses: [10.1.1.2], hints: {forNodes: [{name: one}]}}, {addresses: [10.1.1.3], hints: {}}]",
    );
    let Some(Object::EndpointSlice(slice)) = yaml(&text).objects.pop() else {
        panic!("no slice")
    };
    let texts: Vec<String> = slice
        .endpoints
        .iter()
        .map(|it| format!("{:?}", it.hints.as_ref().map(|it| (&it.zones, &it.nodes))))
        .collect();
    let wanted = [
        r#"Some((["a", "b"], []))"#,
        r#"Some(([], ["one"]))"#,
        "None",
    ];
    assert_eq!(texts, wanted);
}

#[test]
fn preferences_that_nobody_knows_are_told_and_left_out() {
    let service = |fields: &str| {
        let text = service(&format!(
            "{{clusterIP: 10.96.0.1, ports: [{{port: 80}}], {fields}}}"
        ));
        let mut decoded = yaml(&text);
        let Some(Object::Service(service)) = decoded.objects.pop() else {
            panic!("no Service")
        };
        let fields = decoded.problems.into_iter().filter_map(|it| it.field);
        (service, fields.collect::<Vec<_>>())
    };
    for (text, wanted) in [
        ("PreferClose", TrafficDistribution::SameZone),
        ("PreferSameZone", TrafficDistribution::SameZone),
        ("PreferSameNode", TrafficDistribution::SameNode),
    ] {
        let (service, problems) = service(&format!("trafficDistribution: {text}"));
        assert_eq!((service.distribution, problems), (Some(wanted), vec![]));
    }
    let (odd, problems) = service("trafficDistribution: PreferFar");
    assert_eq!(odd.distribution, None);
    assert_eq!(problems, ["spec.trafficDistribution"]);
    let checked = "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort";
    let port = |fields: &str| service(fields).0.health_check_port;
    assert_eq!(port(&format!("{checked}: 32100")), Some(32_100));
    assert_eq!(port("type: LoadBalancer, healthCheckNodePort: 32100"), None);
    let (without, problems) = service(&format!("{checked}: 99999"));
    assert_eq!(without.health_check_port, None);
    assert_eq!(problems, ["spec.healthCheckNodePort"]);
}

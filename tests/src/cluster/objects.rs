//! What runs in the lab's clusters besides the agent: servers, clients, cluster DNS. Values in, manifests out. Pure.

use serde_json::{Value, json};

use super::{DNS_IMAGE, TRAFFIC_IMAGE, config::DNS_ADDRESS};

/// The port of servers, in Pods.
const PORT: u16 = 8080;
const COREFILE: &str = "\
.:53 {
    errors
    ready :8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
    }
    cache 5
}
";

/// A Deployment of servers, which answer with their Pod's name, over TCP and UDP.
pub(super) fn servers(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "topologySpreadConstraints": [{
                        "maxSkew": 1,
                        "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": {"app": name}},
                    }],
                    "containers": [{
                        "name": "server",
                        "image": TRAFFIC_IMAGE,
                        "args": ["serve", "--name", "$(POD)", "--port", PORT.to_string()],
                        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                        // The nodes are to know that it ends before it does, as users are told to do it.
                        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
                    }],
                },
            },
        },
    })
}

/// A Service of such servers: port 80 over TCP and UDP.
pub(super) fn service(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "clusterIP": address,
            "selector": {"app": name},
            "ports": [
                {"name": "tcp", "port": 80, "targetPort": PORT},
                {"name": "udp", "port": 80, "targetPort": PORT, "protocol": "UDP"},
            ],
        },
    })
}

/// A Pod on a node that runs the traffic tool once.
pub(super) fn client(name: &str, node: &str, arguments: &[String]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            // The tool ends when its input does.
            "containers": [{"name": "client", "image": TRAFFIC_IMAGE, "args": arguments, "stdin": true}],
        },
    })
}

/// Cluster DNS: CoreDNS, what it may read, and its Service.
pub(super) fn dns() -> Vec<Value> {
    let meta = |name: &str| json!({"name": name, "namespace": "kube-system"});
    let rbac = "rbac.authorization.k8s.io";
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("coredns")}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "lab:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "lab:coredns"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "lab:coredns"},
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
        }),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("coredns"), "data": {"Corefile": COREFILE}}),
        dns_deployment(&meta("coredns")),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta("kube-dns"),
            "spec": {
                "clusterIP": DNS_ADDRESS,
                "selector": {"k8s-app": "kube-dns"},
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53},
                ],
            },
        }),
    ]
}

fn dns_deployment(meta: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "serviceAccountName": "coredns",
                    "dnsPolicy": "Default",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "coredns",
                        "image": DNS_IMAGE,
                        "args": ["-conf", "/etc/coredns/Corefile"],
                        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
                    }],
                    "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
                },
            },
        },
    })
}

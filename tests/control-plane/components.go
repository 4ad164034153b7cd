// The command lines of etcd, kube-apiserver and kube-controller-manager, and the files that they read.
package main

import (
	"encoding/json"
	"os"
	"strconv"
)

// etcd listens on sockets in the directory, by relative names: the path of a socket must be shorter than 108 bytes.
// etcd wants each to look like a host and a port.
const (
	clientSocket = "etcd-clients:1"
	peerSocket   = "etcd-peers:1"
	etcdClients  = "unix://" + clientSocket
	etcdPeers    = "unix://" + peerSocket
)

const auditPolicy = `{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata"}]}`

func etcd(o *options) *component {
	return &component{name: "etcd", directory: o.directory, arguments: []string{
		"--data-dir", "etcd", "--unsafe-no-fsync",
		"--listen-client-urls", etcdClients, "--advertise-client-urls", etcdClients,
		"--listen-peer-urls", etcdPeers, "--initial-advertise-peer-urls", etcdPeers,
		"--initial-cluster", "default=" + etcdPeers,
	}}
}

func apiserver(o *options) *component {
	arguments := []string{
		"--etcd-servers", etcdClients,
		"--bind-address", o.bindAddress, "--secure-port", strconv.Itoa(o.port), "--permit-port-sharing",
		"--advertise-address", o.advertise,
		"--tls-cert-file", "apiserver.crt", "--tls-private-key-file", "apiserver.key",
		"--client-ca-file", "ca.crt",
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-signing-key-file", "service-accounts.key",
		"--service-account-key-file", "service-accounts.crt",
		"--service-cluster-ip-range", o.serviceCIDRs,
		"--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction",
		"--allow-privileged", "--shutdown-delay-duration", "0s",
		// For what kubelets are asked: logs, and commands in Pods.
		"--kubelet-client-certificate", "admin.crt", "--kubelet-client-key", "admin.key",
		"--kubelet-preferred-address-types", "InternalIP",
	}
	if o.audit {
		arguments = append(arguments, "--audit-policy-file", "audit-policy.json", "--audit-log-path", "audit.log", "--audit-log-maxsize", "0")
	}
	return &component{name: "kube-apiserver", directory: o.directory, arguments: arguments}
}

func controllerManager(o *options) *component {
	return &component{name: "kube-controller-manager", directory: o.directory, arguments: []string{
		"--kubeconfig", "controllers.kubeconfig", "--secure-port", "0",
		"--service-account-private-key-file", "service-accounts.key", "--root-ca-file", "ca.crt",
		"--use-service-account-credentials", "--leader-elect=false",
		"--controllers", o.controllers,
	}}
}

// writeFiles makes all certificates, kubeconfigs and policies.
func writeFiles(o *options) error {
	ca, err := newAuthority(o.directory)
	if err != nil {
		return err
	}
	subjects := []subject{
		{file: "apiserver", name: "kube-apiserver", hosts: o.certificateHosts()},
		{file: "admin", name: "admin", groups: []string{"system:masters"}},
		{file: "service-accounts", name: "service-accounts"},
		{file: "controllers", name: "system:kube-controller-manager"},
		{file: "scheduler", name: "system:kube-scheduler"},
	}
	users := []string{"admin", "controllers", "scheduler"}
	for _, node := range o.nodeNames() {
		kubelet := subject{file: "kubelet-" + node, name: "system:node:" + node, groups: []string{"system:nodes"}}
		subjects = append(subjects, kubelet)
		users = append(users, kubelet.file)
	}
	for _, who := range subjects {
		if err := ca.issue(who); err != nil {
			return err
		}
	}
	for _, user := range users {
		if err := writeKubeconfig(o, user); err != nil {
			return err
		}
	}
	return os.WriteFile(o.path("audit-policy.json"), []byte(auditPolicy), 0o600)
}

// writeKubeconfig writes USER.kubeconfig with everything in line, so that the file may be copied elsewhere.
func writeKubeconfig(o *options, user string) error {
	files := map[string][]byte{}
	for _, name := range []string{"ca.crt", user + ".crt", user + ".key"} {
		data, err := os.ReadFile(o.path(name))
		if err != nil {
			return err
		}
		files[name] = data
	}
	type object = map[string]any
	text, err := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": user,
		"clusters": []object{{"name": "test", "cluster": object{
			"server": o.server(), "certificate-authority-data": files["ca.crt"]}}},
		"users": []object{{"name": user, "user": object{
			"client-certificate-data": files[user+".crt"], "client-key-data": files[user+".key"]}}},
		"contexts": []object{{"name": user, "context": object{"cluster": "test", "user": user}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.path(user+".kubeconfig"), text, 0o600)
}

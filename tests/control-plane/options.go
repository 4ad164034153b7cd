// The flags of `up`, and what follows from them: addresses, paths, the ready line.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// options is what a caller of `up` may choose.
type options struct {
	directory     string
	temporary     bool // the directory is ours to make, and to remove as a whole
	bindAddress   string
	port          int
	serverAddress string
	advertise     string
	hosts         string
	serviceCIDRs  string
	controllers   string
	nodes         string
	audit         bool
}

// ready is the one line that `up` prints once everything serves.
type ready struct {
	Kubeconfig  string `json:"kubeconfig"`
	Server      string `json:"server"`
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	Audit       string `json:"audit,omitempty"`
	Directory   string `json:"directory"`
}

// What endpoints, namespaces, service accounts and their roles need; nothing that makes Pods.
const controllers = "endpointslice-controller,endpointslice-mirroring-controller,endpoints-controller," +
	"namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller," +
	"garbage-collector-controller,clusterrole-aggregation-controller"

func parseOptions(arguments []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("control-plane up", flag.ExitOnError)
	flags.StringVar(&o.directory, "directory", "", "where certificates, data and logs go; a temporary one if empty")
	flags.StringVar(&o.bindAddress, "bind-address", "127.0.0.1", "where the API server listens")
	flags.IntVar(&o.port, "port", 0, "the API server's port; 0 takes a free one")
	flags.StringVar(&o.serverAddress, "server-address", "", "the address that the kubeconfig names (default: the bind address, or 127.0.0.1 if it is no single one)")
	flags.StringVar(&o.advertise, "advertise-address", "192.0.2.1", "the address in the endpoints of the Service `kubernetes`; may not be loopback")
	flags.StringVar(&o.hosts, "san", "", "further names and addresses for the API server's certificate, by commas")
	flags.StringVar(&o.serviceCIDRs, "service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112", "where cluster IPs are taken from")
	flags.StringVar(&o.controllers, "controllers", controllers, "which controllers run, by commas")
	flags.StringVar(&o.nodes, "nodes", "", "nodes whose kubelets get a kubeconfig, kubelet-NODE.kubeconfig, by commas")
	flags.BoolVar(&o.audit, "audit", false, "write an audit log (level Metadata)")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("up takes no argument, but got %q", flags.Args())
	}
	return o, o.complete()
}

func (o *options) complete() error {
	bind := net.ParseIP(o.bindAddress)
	if bind == nil {
		return fmt.Errorf("--bind-address %q is no address", o.bindAddress)
	}
	if o.serverAddress == "" {
		o.serverAddress = o.bindAddress
		if bind.IsUnspecified() {
			o.serverAddress = "127.0.0.1"
		}
	}
	var err error
	if o.directory == "" {
		o.temporary = true
		o.directory, err = os.MkdirTemp("", "control-plane-")
		return err
	}
	if o.directory, err = filepath.Abs(o.directory); err != nil {
		return err
	}
	return os.MkdirAll(o.directory, 0o700)
}

func (o *options) path(name string) string {
	return filepath.Join(o.directory, name)
}

func (o *options) server() string {
	return "https://" + net.JoinHostPort(o.serverAddress, strconv.Itoa(o.port))
}

// certificateHosts are all names that a client may call the API server by.
func (o *options) certificateHosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1", o.serverAddress, o.advertise,
		"kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	for _, cidr := range strings.Split(o.serviceCIDRs, ",") {
		// The first address of the range is the Service `kubernetes`.
		if _, network, err := net.ParseCIDR(cidr); err == nil {
			first := network.IP
			first[len(first)-1]++
			hosts = append(hosts, first.String())
		}
	}
	return append(hosts, listed(o.hosts)...)
}

func (o *options) nodeNames() []string {
	return listed(o.nodes)
}

// listed are the names between commas.
func listed(text string) []string {
	return strings.FieldsFunc(text, func(letter rune) bool { return letter == ',' })
}

func (o *options) ready() ready {
	line := ready{
		Kubeconfig:  o.path("admin.kubeconfig"),
		Server:      o.server(),
		CA:          o.path("ca.crt"),
		Certificate: o.path("apiserver.crt"),
		Key:         o.path("apiserver.key"),
		Directory:   o.directory,
	}
	if o.audit {
		line.Audit = o.path("audit.log")
	}
	return line
}

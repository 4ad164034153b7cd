// Command control-plane is the real Kubernetes control plane, and the real kube-proxy, in one binary.
//
// The first argument picks a component, whose own flags follow; `up` starts them together for a test.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserverapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllersapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxyapp "k8s.io/kubernetes/cmd/kube-proxy/app"
)

const usage = "usage: control-plane up|etcd|kube-apiserver|kube-controller-manager|kube-proxy [flags]"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	switch os.Args[1] {
	case "up":
		// Its children must be started by a thread that lives as long as the process.
		runtime.LockOSThread()
		if err := up(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "control-plane up:", err)
			os.Exit(1)
		}
	case "etcd":
		etcdmain.Main(os.Args[1:])
	case "kube-apiserver":
		run(apiserverapp.NewAPIServerCommand())
	case "kube-controller-manager":
		run(controllersapp.NewControllerManagerCommand())
	case "kube-proxy":
		run(proxyapp.NewProxyCommand())
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}

// run runs a component as if it were a binary of its own.
func run(command *cobra.Command) {
	os.Args = os.Args[1:]
	os.Exit(cli.Run(command))
}

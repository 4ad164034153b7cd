// Command cluster is what a node of a real Kubernetes cluster runs, and what schedules onto it, in one binary.
//
// The first argument picks a component, whose own flags follow; `node` is the first process of a node.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	schedulerapp "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
)

const usage = "usage: cluster node|kubelet|kube-scheduler|kubectl [flags]"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	switch os.Args[1] {
	case "node":
		if err := node(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "cluster node:", err)
			os.Exit(1)
		}
	case "kubelet":
		run(kubeletapp.NewKubeletCommand(context.Background()))
	case "kube-scheduler":
		run(schedulerapp.NewSchedulerCommand())
	case "kubectl":
		run(kubectl.NewDefaultKubectlCommand())
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

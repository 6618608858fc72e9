// kwok plays the nodes and pods of a cluster without a machine. Its own main is repeated here, so that it is part of
// the one program.
package main

import (
	"github.com/spf13/pflag"
	"sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/signals"
)

func init() {
	components["kwok"] = runKwok
}

func runKwok([]string) int {
	// The other components put a flag "version" of their own there, which kwok's command cannot read.
	pflag.CommandLine = pflag.NewFlagSet("kwok", pflag.ContinueOnError)
	// The Kubernetes components leave global flags there, which kwok would take for its own.
	pflag.CommandLine = pflag.NewFlagSet("kwok", pflag.ExitOnError)
	flags := pflag.NewFlagSet("global", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}

	ctx, logger := log.InitFlags(signals.SetupSignalContext(), flags)
	ctx, err := config.InitFlags(ctx, flags)
	if err != nil {
		logger.Error("Cannot read the configuration", "err", err)
		return 1
	}
	command := kwok.NewCommand(ctx)
	command.PersistentFlags().AddFlagSet(flags)
	if err := command.ExecuteContext(ctx); err != nil {
		logger.Error("Ended", "err", err)
		return 1
	}
	return 0
}

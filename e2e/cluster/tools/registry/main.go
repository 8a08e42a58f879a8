// Command registry is the CNCF distribution registry with the file system store
// and htpasswd only: the cloud stores' SDKs would take most of the build time.
// It also prints the line of an htpasswd file, so that no Apache tool is needed.
package main

import (
	"fmt"
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
)

func main() {
	registry.RootCmd.AddCommand(&cobra.Command{
		Use:   "htpasswd NAME PASSWORD",
		Short: "print the line of an htpasswd file",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			hash, err := bcrypt.GenerateFromPassword([]byte(args[1]), bcrypt.MinCost)
			if err != nil {
				return err
			}
			fmt.Printf("%s:%s\n", args[0], hash)
			return nil
		},
	})
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}

package core

import (
	"net"
	"strings"
)

// Visitor is what is known of a person's browser, as evidence of what they did on a
// page. It is personal data.
type Visitor struct {
	Address string // of the network, without a port
	Agent   string // what the browser calls itself, cut to 500 characters
}

// maxAgent is how much of what a browser calls itself is kept, in characters.
const maxAgent = 500

// NewVisitor gives the visitor who calls from HOST:PORT with a browser of that name.
func NewVisitor(remote, agent string) Visitor {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	name := []rune(strings.ToValidUTF8(agent, ""))
	return Visitor{Address: host, Agent: string(name[:min(len(name), maxAgent)])}
}

package core

// Visitor is what is known of a person's browser, as evidence of what they did on a
// page. It is personal data.
type Visitor struct {
	Address string // of the network, without a port
	Agent   string // what the browser calls itself, cut to 500 characters
}

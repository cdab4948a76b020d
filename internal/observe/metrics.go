package observe

import (
	"cmp"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/opencpm/opencpm/internal/consent"
)

//go:generate go run gen.go ../../docs/operations/metrics.md

// How a delivery can end or leave the quick attempts, as counted by Metrics.Deliveries.
const (
	Delivered  = "delivered"  // answered with a 2xx
	Failed     = "failed"     // moved to the failures store after its quick attempts
	Superseded = "superseded" // closed because a newer state of the citizen takes its place
)

// What one attempt can come to, as counted by Metrics.Attempts.
const (
	AttemptOK      = "ok"      // a 2xx
	AttemptStatus  = "status"  // any other answer, redirects included
	AttemptTimeout = "timeout" // no complete answer in time
	AttemptDNS     = "dns"     // the host has no address
	AttemptConnect = "connect" // no connection, or one that broke
	AttemptTLS     = "tls"     // no trust in the endpoint
	AttemptBlocked = "blocked" // the address is one that webhooks may not reach
)

// What can become of a notice to the operator, as counted by Metrics.Notices.
const (
	NoticeSent   = "sent"   // by mail
	NoticeFailed = "failed" // it is tried again
	NoticeLogged = "logged" // nobody is to be told by mail
)

var (
	outcomes = []string{Delivered, Failed, Superseded}
	classes  = []string{AttemptOK, AttemptStatus, AttemptTimeout, AttemptDNS, AttemptConnect, AttemptTLS, AttemptBlocked}
	notices  = []string{"failing", "gone", "recovered"} // as the store has them
	told     = []string{NoticeSent, NoticeFailed, NoticeLogged}
	mails    = []string{string(consent.EmailSent), string(consent.EmailWaiting), string(consent.EmailRefused), string(consent.EmailExpired)}
)

// Metrics is everything that is measured, all of it under the prefix opencpm_. Durations are in seconds. Its fields are
// safe for concurrent use; each process makes one.
type Metrics struct {
	registry *prometheus.Registry

	requests        *prometheus.CounterVec
	requestDuration *prometheus.HistogramVec

	Changes        prometheus.Counter   // permission and preference changes recorded
	CommitBatch    prometheus.Histogram // items written by one commit
	CommitDuration prometheus.Histogram // from the start of the database transaction to its commit

	Deliveries      *prometheus.CounterVec // by outcome: Delivered, Failed, Superseded
	Attempts        *prometheus.CounterVec // by class: AttemptOK, AttemptStatus, …
	DeliveryLatency prometheus.Histogram   // from the commit of a change to the 2xx of the message that carried it
	WaitingLanes    prometheus.Gauge       // lanes with something to send, those in the failures store not counted
	FailuresStored  prometheus.Gauge       // messages in the failures store
	LeaseTakeovers  prometheus.Counter     // shards taken over from a node that did not renew

	JobsEnded        *prometheus.CounterVec // by kind and the state in which they ended
	JobsRunning      prometheus.Gauge       // jobs in the hands of this process
	EndpointsFailing prometheus.Gauge       // endpoints of active subscriptions that have been failing for an hour
	Mails            *prometheus.CounterVec // attempts to hand mails to citizens to the mail server, by the state that followed
	Notices          *prometheus.CounterVec // to the operator, by kind and outcome: NoticeSent, NoticeFailed, NoticeLogged
}

// NewMetrics makes the metrics of one process. The version is that of the program, "" for one that has none.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)

	m.gaugeVec("build_info", "Always 1; the labels say which build this is.", "version", "go").
		WithLabelValues(cmp.Or(version, "unknown"), runtime.Version()).Set(1)

	m.requests = m.counterVec("http_requests_total",
		"Requests answered. The route is the pattern, \"unmatched\" where there is none; the status is its class, such as 2xx.",
		"route", "method", "status")
	m.requestDuration = m.histogramVec("http_request_duration_seconds",
		"Time from the arrival of a request to the end of its answer.",
		[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}, "route", "method", "status")

	m.Changes = m.counterVec("changes_recorded_total",
		"Changes of permissions and preferences recorded, those without effect included.").WithLabelValues()
	m.CommitBatch = m.histogram("store_commit_batch_size",
		"Items that one commit wrote.",
		[]float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512})
	m.CommitDuration = m.histogram("store_commit_duration_seconds",
		"Time from the start of a database transaction that writes to its commit.",
		[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5})

	m.Deliveries = m.counterVec("deliveries_total",
		"Deliveries by outcome: "+strings.Join(outcomes, ", ")+". A failed one is in the failures store and is delivered later.",
		"outcome")
	m.Attempts = m.counterVec("delivery_attempts_total",
		"Attempts to deliver a message by what came of them: "+strings.Join(classes, ", ")+".",
		"class")
	m.DeliveryLatency = m.histogram("delivery_latency_seconds",
		"Time from the commit of a change to the 2xx of the message that carried it.",
		[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 7200, 21600, 86400})
	m.WaitingLanes = m.gaugeVec("lanes_waiting",
		"Pairs of a subscription and a citizen that have something to send and are not in the failures store.").WithLabelValues()
	m.FailuresStored = m.gaugeVec("failures_stored",
		"Messages in the failures store.").WithLabelValues()
	m.LeaseTakeovers = m.counterVec("lease_takeovers_total",
		"Shards taken over from a node that did not renew its lease.").WithLabelValues()

	m.JobsEnded = m.counterVec("jobs_ended_total",
		"Jobs that ended, by kind and by how they did: done, failed, cancelled.", "kind", "state")
	m.JobsRunning = m.gaugeVec("jobs_running",
		"Jobs that this process works on.").WithLabelValues()
	m.EndpointsFailing = m.gaugeVec("webhook_endpoints_failing",
		"Active subscriptions whose endpoints have been failing for an hour at least.").WithLabelValues()
	m.Mails = m.counterVec("citizen_mails_total",
		"Attempts to hand mails to citizens to the mail server, by the state of the mail after it: "+strings.Join(mails, ", ")+". One that waits is tried again.",
		"state")
	m.Notices = m.counterVec("operator_notices_total",
		"Notices to the operator about endpoints, by kind: "+strings.Join(notices, ", ")+"; and outcome: "+strings.Join(told, ", ")+
			". One that failed is tried again; logged means that nobody is to be told by mail.",
		"kind", "outcome")

	// A series that exists from the start can be told from one that is missing, and its first increase counts.
	for _, outcome := range outcomes {
		m.Deliveries.WithLabelValues(outcome)
	}
	for _, class := range classes {
		m.Attempts.WithLabelValues(class)
	}
	for _, state := range mails {
		m.Mails.WithLabelValues(state)
	}
	for _, kind := range consent.JobKinds {
		for _, state := range consent.JobStates {
			if state.Ended() {
				m.JobsEnded.WithLabelValues(string(kind), string(state))
			}
		}
	}
	for _, kind := range notices {
		for _, outcome := range told {
			m.Notices.WithLabelValues(kind, outcome)
		}
	}
	return m
}

const prefix = "opencpm_"

func (m *Metrics) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	m.registry.MustRegister(vec)
	return vec
}

func (m *Metrics) gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, labels)
	m.registry.MustRegister(vec)
	return vec
}

func (m *Metrics) histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(vec)
	return vec
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	return m.histogramVec(name, help, buckets).WithLabelValues().(prometheus.Histogram)
}

// Registry is where everything is registered, for a test that gathers.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler serves the metrics in the forms that Prometheus reads.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// request counts an answered request.
func (m *Metrics) request(route, method string, status int, took time.Duration) {
	class := fmt.Sprintf("%dxx", status/100)
	m.requests.WithLabelValues(route, method, class).Inc()
	m.requestDuration.WithLabelValues(route, method, class).Observe(took.Seconds())
}

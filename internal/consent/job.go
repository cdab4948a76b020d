package consent

// JobKind names a kind of long work.
type JobKind string

// LedgerCheck walks all citizens of an application: it follows the chain of each and
// compares the effective state with what the ledger says.
const LedgerCheck JobKind = "ledger-check"

// The kinds of work on the messages of a subscription.
const (
	ResyncJob    JobKind = "resync"    // sends the present states of citizens
	RedeliverJob JobKind = "redeliver" // makes what failed due at once
	DiscardJob   JobKind = "discard"   // ends what waits
)

// TokensJob makes tokens of many citizens.
const TokensJob JobKind = "citizen-tokens"

// JobKinds lists every kind of long work.
var JobKinds = []JobKind{LedgerCheck, ResyncJob, RedeliverJob, DiscardJob, TokensJob}

// JobState says how far a job is.
type JobState string

// The states of a job. The last three are its ends, of which it never leaves one.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// JobStates lists every state of a job.
var JobStates = []JobState{JobQueued, JobRunning, JobDone, JobFailed, JobCancelled}

// Ended reports whether the state is an end.
func (s JobState) Ended() bool { return s != JobQueued && s != JobRunning }

// JobFile names one of the files that a job may write.
type JobFile string

// The files of a job.
const (
	JobResult   JobFile = "result"   // what came of it
	JobFailures JobFile = "failures" // what failed, a line of CSV for each
)

// JobFiles lists every file that a job may write.
var JobFiles = []JobFile{JobResult, JobFailures}

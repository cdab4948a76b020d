package jobs

import (
	"context"
	"encoding/csv"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// mint is the use cases over the store of a world, and who may make tokens there.
type mint struct {
	*world
	core  *core.Service
	actor core.Actor
}

func tokenWorld(t *testing.T, test func(t *testing.T, m *mint)) {
	t.Helper()
	inBubble(t, &counting{}, func(t *testing.T, w *world) {
		m := &mint{w, nil, core.Actor{ID: "mailer", Applications: []int64{w.app}, Scopes: consent.Scopes}}
		m.restart()
		m.configure(nil)
		test(t, m)
	})
}

// restart is what another process, or the next one, sees.
func (m *mint) restart() {
	m.core = core.New(m.st, core.Options{BaseURL: "https://consent.example/", Outbound: safehttp.Policy{}})
}

// run runs a node until stop is called.
func (m *mint) run() (stop func()) {
	service := m.core
	r := NewRunner(m.st, Options{Kinds: []Kind{Tokens(service), Resync}, Log: slog.Default()})
	run, cancel := context.WithCancel(ctx)
	runner, clock := make(chan struct{}), make(chan struct{})
	go func() { r.Run(run); close(runner) }()
	go func() { Regenerate(run, service, slog.Default()); close(clock) }()
	return func() { cancel(); <-runner; <-clock }
}

func (m *mint) people(n int) (ids []consent.ID) {
	m.t.Helper()
	for i := range n {
		c, err := m.st.CreateCitizen(ctx, m.app, fmt.Sprint("CUST-", i), consent.Details{}, "test", store.Once{})
		if err != nil {
			m.t.Fatal(err)
		}
		ids = append(ids, c.ID)
	}
	return ids
}

func (m *mint) begin(q core.TokenJobRequest) store.TokenJob {
	m.t.Helper()
	q.ApplicationID = "northwind"
	j, err := m.core.CreateTokenJob(ctx, m.actor, core.Request{}, q)
	if err != nil {
		m.t.Fatal(err)
	}
	return j
}

// lines reads a file, without its titles, which must be these.
func (m *mint) lines(id consent.ID, file consent.JobFile, titles string) [][]string {
	m.t.Helper()
	text := m.file(id, file)
	list, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		m.t.Fatal(err)
	}
	if len(list) == 0 || strings.Join(list[0], ",") != titles {
		m.t.Fatalf("the file begins %.200q", text)
	}
	return list[1:]
}

const tokenTitles = "citizenId,externalRef,token,token_url,expiryDate"

func (m *mint) opens(token string) bool {
	m.t.Helper()
	_, err := m.core.ByCitizenToken(ctx, token)
	return err == nil
}

func in(d time.Duration) consent.Instant { return consent.At(time.Now().Add(d)) }

func TestTokensOfEveryone(t *testing.T) {
	tokenWorld(t, func(t *testing.T, m *mint) {
		ids := m.people(45)
		strange := map[string]string{`=HYPERLINK("x")`: `'=HYPERLINK("x")`, "a,b\"c": "a,b\"c", "+49": "'+49", "Grüße": "Grüße"}
		for ref := range strange {
			if _, err := m.st.CreateCitizen(ctx, m.app, ref, consent.Details{GivenName: "X"}, "test", store.Once{}); err != nil {
				t.Fatal(err)
			}
		}
		other := storetest.Application(t, m.st, "globex").Application
		if _, err := m.st.CreateCitizen(ctx, other, "CUST-1", consent.Details{}, "test", store.Once{}); err != nil {
			t.Fatal(err)
		}
		if err := m.st.EraseCitizen(ctx, m.app, consent.CitizenKey{ID: ids[44]}, "test"); err != nil {
			t.Fatal(err)
		}
		rate := int64(20)
		j := m.begin(core.TokenJobRequest{Reference: "spring", Expires: in(time.Hour), PerSecond: &rate, Unsubscribe: []string{"newsletter-email", "all-email"}})
		time.Sleep(10 * time.Millisecond)
		stop := m.run()
		time.Sleep(1200 * time.Millisecond)
		stop() // and somebody else goes on
		stop = m.run()
		time.Sleep(10 * time.Second)
		stop()
		if got := m.read(j.ID); got.State != consent.JobDone || got.Done != 48 || *got.Total != 48 || got.Failures != 0 || got.ExpiresAt != j.Expires {
			t.Fatalf("ended as %+v", got)
		}
		list := m.lines(j.ID, consent.JobResult, tokenTitles+",unsubscribe_url_newsletter-email,unsubscribe_url_all-email")
		if len(list) != 48 {
			t.Fatalf("%d lines", len(list))
		}
		seen := map[string]bool{}
		for i, line := range list {
			want := fmt.Sprint("CUST-", i)
			if i >= 44 {
				if want = line[1]; !slices.Contains([]string{`'=HYPERLINK("x")`, "a,b\"c", "'+49", "Grüße"}, want) {
					t.Errorf("reference %q", want)
				}
			} else if line[0] != ids[i].String() {
				t.Errorf("line %d is of %s", i, line[0])
			}
			actor, err := m.core.ByCitizenToken(ctx, line[2])
			if err != nil || actor.Citizen.String() != line[0] || line[1] != want || seen[line[2]] ||
				line[3] != "https://shop.example/me?t="+line[2]+"&x=1,2" || line[4] != j.Expires.String() {
				t.Errorf("line %q: %v", line, err)
			}
			seen[line[2]] = true
			for n, leaves := range []consent.Key{{Type: consent.OptionSingle, ID: "newsletter-email"}, {Type: consent.OptionGroup, ID: "all-email"}} {
				text, ok := strings.CutPrefix(line[5+n], "https://consent.example/u/")
				of, err := m.core.Leaving(ctx, text)
				if !ok || err != nil || !of.Known || of.Leaves != leaves || of.Left {
					t.Errorf("%q is a link to leave %+v, %v", line[5+n], of, err)
				}
			}
		}

		// One issue for all of them, by which they are revoked; links to leave are not.
		issues, _, err := m.core.TokenIssues(ctx, m.actor, "northwind", 0, 10, 0)
		if err != nil || len(issues) != 1 || issues[0].Kind != store.BatchTokens || issues[0].JobID != j.ID || issues[0].Reference != "spring" || issues[0].Number != j.Issue || issues[0].ExpiresAt != j.Expires || issues[0].Scheduled {
			t.Fatalf("issues %+v, %v", issues, err)
		}
		if err := m.core.RevokeTokenIssue(ctx, m.actor, j.Issue); err != nil {
			t.Fatal(err)
		}
		if m.opens(list[0][2]) || m.opens(list[47][2]) {
			t.Error("a token of the batch opens something once that is revoked")
		}
		if of, err := m.core.Leaving(ctx, strings.TrimPrefix(list[0][5], "https://consent.example/u/")); err != nil || !of.Known {
			t.Errorf("nobody can leave once the batch is revoked: %v", err)
		}

		// The file goes when its tokens do.
		time.Sleep(time.Hour)
		if !m.read(j.ID).Expired() {
			t.Error("the file is there though its tokens have expired")
		}
	})
}

func TestTokensOfSome(t *testing.T) {
	tokenWorld(t, func(t *testing.T, m *mint) {
		ids := m.people(10)
		elsewhere, err := m.st.CreateCitizen(ctx, storetest.Application(t, m.st, "globex").Application, "THEIRS", consent.Details{}, "test", store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		nobody := store.NewID()
		rate := int64(2)
		j := m.begin(core.TokenJobRequest{
			Expires: in(time.Hour), PerSecond: &rate, CitizenIDs: []consent.ID{ids[7], elsewhere.ID, ids[2], ids[7], nobody}, ExternalRefs: []string{"CUST-3", "CUST-2", "=nobody", "THEIRS"},
		})
		if err := m.st.EraseCitizen(ctx, m.app, consent.CitizenKey{ID: ids[3]}, "test"); err != nil {
			t.Fatal(err)
		}
		defer m.run()()
		time.Sleep(10 * time.Second)
		if got := m.read(j.ID); got.State != consent.JobDone || got.Failures != 4 || got.Done != 6 {
			t.Fatalf("ended as %+v", got)
		}
		var of []string
		for _, line := range m.lines(j.ID, consent.JobResult, tokenTitles) {
			of = append(of, line[1])
		}
		if diff := cmp.Diff([]string{"CUST-2", "CUST-7"}, of); diff != "" {
			t.Error(diff)
		}
		const problem = "there is no such citizen"
		failures := m.lines(j.ID, consent.JobFailures, "citizenId,externalRef,problem")
		want := [][]string{{elsewhere.ID.String(), "", problem}, {nobody.String(), "", problem}, {"", "'=nobody", problem}, {"", "THEIRS", problem}}
		if diff := cmp.Diff(want, failures); diff != "" {
			t.Error(diff)
		}

		none := m.begin(core.TokenJobRequest{Expires: in(time.Hour), ExternalRefs: []string{"nobody"}})
		late := m.begin(core.TokenJobRequest{Expires: in(11 * time.Second), PerSecond: &rate})
		time.Sleep(20 * time.Second)
		if got := m.read(none.ID); got.State != consent.JobDone || got.Done != 1 || got.Failures != 1 || len(m.lines(none.ID, consent.JobResult, tokenTitles)) != 0 {
			t.Errorf("a job for nobody ended as %+v", got)
		}
		if got := m.read(late.ID); got.State != consent.JobDone {
			t.Errorf("a job for soon ended as %+v", got)
		}
	})
}

// A job that comes too late says so, and does not hold up those behind it, even where its
// files are to go before it was begun.
func TestTokensThatComeTooLate(t *testing.T) {
	tokenWorld(t, func(t *testing.T, m *mint) {
		m.people(1)
		j := m.begin(core.TokenJobRequest{})
		next := m.begin(core.TokenJobRequest{Expires: in(time.Hour)})
		clean, cancel := context.WithTimeout(ctx, 2*forgetEvery)
		defer cancel()
		Run(clean, m.st, slog.Default())
		defer m.run()()
		time.Sleep(5 * time.Second)
		if got := m.read(j.ID); got.State != consent.JobFailed || !strings.Contains(got.Error, "expired") {
			t.Errorf("ended as %+v", got)
		}
		if got := m.read(next.ID); got.State != consent.JobDone {
			t.Errorf("the one behind it: %+v", got)
		}
	})
}

// Whoever is erased is named in no file of tokens any more: not in one that is done, nor in
// what a step that had read them before adds to one that runs.
func TestTheErasedAreBlankedInFilesOfTokens(t *testing.T) {
	tokenWorld(t, func(t *testing.T, m *mint) {
		ids := m.people(3)
		if _, err := m.st.CreateCitizen(ctx, m.app, `quoted, "twice"`, consent.Details{}, "test", store.Once{}); err != nil {
			t.Fatal(err)
		}
		done := m.begin(core.TokenJobRequest{Expires: in(time.Hour)})
		stop := m.run()
		time.Sleep(2 * time.Second)
		stop()
		size := m.read(done.ID).Files[consent.JobResult]
		running := m.begin(core.TokenJobRequest{Expires: in(time.Hour)})
		held, ok, err := m.st.ClaimJob(ctx, "node", []consent.JobKind{consent.TokensJob}, time.Hour)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		step, letGo := Tokens(m.core).Open()
		defer letGo()
		effect, err := step(ctx, m.st, held)
		if err != nil {
			t.Fatal(err)
		}
		erase := func(key consent.CitizenKey) {
			t.Helper()
			if err := m.st.EraseCitizen(ctx, m.app, key, "test"); err != nil {
				t.Fatal(err)
			}
		}
		erase(consent.CitizenKey{ID: ids[1]})
		if held, err = m.st.StepJob(ctx, held, effect); err != nil {
			t.Fatal(err)
		}
		erase(consent.CitizenKey{ExternalRef: `quoted, "twice"`})
		if err := m.st.ReleaseJob(ctx, held); err != nil {
			t.Fatal(err)
		}
		defer m.run()()
		time.Sleep(2 * time.Second)
		for name, id := range map[string]consent.ID{"done": done.ID, "running": running.ID} {
			var refs []string
			for _, line := range m.lines(id, consent.JobResult, tokenTitles) {
				refs = append(refs, strings.TrimSpace(line[1]))
			}
			if diff := cmp.Diff([]string{"CUST-0", "", "CUST-2", ""}, refs); diff != "" {
				t.Errorf("%s:\n%s", name, diff)
			}
			if got := m.read(id); got.Files[consent.JobResult] != size || int64(len(m.file(id, consent.JobResult))) != size || got.State != consent.JobDone {
				t.Errorf("%s: the file says it has %d bytes, want %d", name, got.Files[consent.JobResult], size)
			}
		}
	})
}

// configure sets the schedule, as another process would.
func (m *mint) configure(v *consent.TokenRegeneration) {
	m.t.Helper()
	items, err := consent.Catalogue{Application: consent.ApplicationSettings{
		Name: "Northwind", ManageURL: "https://shop.example/me?t={token}&x=1,2", TokenRegeneration: v,
	}}.Items()
	if err != nil {
		m.t.Fatal(err)
	}
	list, err := m.st.Applications(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(a store.Application) bool { return a.Number == m.app })
	if _, err := m.st.ChangeCatalogue(ctx, list[at], []consent.Revision{{Item: items[0]}}, "test", store.Once{}); err != nil {
		m.t.Fatal(err)
	}
}

// scheduled gives the scheduled issues, the newest first.
func (m *mint) scheduled() (list []store.TokenIssue) {
	m.t.Helper()
	all, _, err := m.st.TokenIssues(ctx, m.app, 0, 100, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, v := range all {
		if v.Scheduled {
			list = append(list, v)
		}
	}
	return list
}

const day = 24 * time.Hour

func TestTokensOnSchedule(t *testing.T) {
	tokenWorld(t, func(t *testing.T, m *mint) {
		m.people(5)
		include := consent.Subscription{
			ID: store.NewID(), Application: m.app, ApplicationID: "northwind", Name: "CRM", URL: "https://crm.example/", UpdateType: consent.EffectivePermission, Status: consent.Active, AuthType: consent.AuthNone,
		}
		include.IncludeCitizenToken = true
		plain := include
		plain.ID, plain.IncludeCitizenToken = store.NewID(), false
		for _, v := range []consent.Subscription{include, plain} {
			if _, err := m.st.CreateSubscription(ctx, v, "test", store.Once{}); err != nil {
				t.Fatal(err)
			}
		}
		want := func(n int, what string) {
			t.Helper()
			m.awhile()
			if got := m.scheduled(); len(got) != n {
				t.Fatalf("%s: %d batches, want %d", what, len(got), n)
			}
		}
		want(0, "without a schedule")
		m.configure(&consent.TokenRegeneration{Every: "P2D", ValidFor: "P3D"})
		want(1, "at once")
		first := m.scheduled()[0]
		if got := m.read(first.JobID); got.State != consent.JobDone || got.Done != 5 || got.CreatedBy != consent.Platform.ID || first.ExpiresAt != first.CreatedAt.Add(3*day)/1000*1000 {
			t.Fatalf("the first: %+v, %+v", got, first)
		}
		token := m.lines(first.JobID, consent.JobResult, tokenTitles)[0][2]
		if jobs, _, err := m.st.Jobs(ctx, store.JobFilter{Applications: []int64{m.app}, Kind: consent.ResyncJob, Limit: 10}); err != nil || len(jobs) != 1 || jobs[0].State != consent.JobDone || jobs[0].CreatedBy != consent.Platform.ID {
			t.Fatalf("to those whose messages carry tokens everybody's state is sent by %+v, %v", jobs, err)
		}
		time.Sleep(day)
		want(1, "before it is due")
		time.Sleep(day)
		want(2, "when it is due")
		if !m.opens(token) {
			t.Error("the tokens before are revoked by new ones")
		}
		time.Sleep(7 * day) // nobody is there: one batch makes up for it
		m.restart()
		want(3, "late")
		time.Sleep(day + 12*time.Hour)
		want(3, "and no more")
		m.configure(&consent.TokenRegeneration{Every: "P1D", ValidFor: "P3D"})
		want(4, "by a new setting")
		m.configure(nil)
		time.Sleep(2 * day)
		want(4, "switched off")
	})
}

// awhile lets two nodes look whether tokens are due, twice, and one of them make them.
func (m *mint) awhile() {
	stop := m.run()
	run, cancel := context.WithCancel(ctx)
	other := make(chan struct{})
	go func() { Regenerate(run, core.New(m.st, core.Options{}), slog.Default()); close(other) }()
	time.Sleep(regenerateEvery + 10*time.Second)
	cancel()
	<-other
	stop()
}

// A batch that failed is made again before long.
func TestAScheduledBatchThatFailed(t *testing.T) {
	tokenWorld(t, func(t *testing.T, m *mint) {
		m.people(1)
		m.configure(&consent.TokenRegeneration{Every: "P10D", ValidFor: "P15D"})
		if err := m.core.RegenerateTokens(ctx); err != nil {
			t.Fatal(err)
		}
		held, ok, err := m.st.ClaimJob(ctx, "node", []consent.JobKind{consent.TokensJob}, time.Minute)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := m.st.EndJob(ctx, held, consent.JobFailed, "It failed."); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Minute)
		if m.awhile(); len(m.scheduled()) != 1 {
			t.Fatalf("%d batches at once", len(m.scheduled()))
		}
		time.Sleep(10 * time.Minute)
		m.awhile()
		if list := m.scheduled(); len(list) != 2 || m.read(list[0].JobID).State != consent.JobDone {
			t.Fatalf("then %+v", list)
		}
	})
}

// A reference stays one field, and text, in a spreadsheet that parts at commas, semicolons
// or tabs.
func TestAFieldIsNoFormula(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "CUST-1": "CUST-1", "a=b": "a=b", "Grüße": "Grüße", `say "hi"`: `"say ""hi"""`, "a,b": `"a,b"`, "a\nb": "\"a\nb\"",
		"=1+1": "'=1+1", "-1": "'-1", "@x": "'@x", "＝1+1": "'＝1+1", "＠x": "'＠x", "\t=1": "\"'\t=1\"",
		"x;=1+1;y": `"x;=1+1;y"`, "x\t=1+1": "\"x\t=1+1\"", "=1;=2": `"'=1;=2"`, "\xff": "\xff",
	} {
		if got := string(appendField(nil, text)); got != want {
			t.Errorf("%q becomes %s, want %s", text, got, want)
		}
	}
}

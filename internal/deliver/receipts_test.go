package deliver

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// copyOf is what a receiver holds of one citizen: states by option, choices by
// preference.
type copyOf map[string]string

// apply takes over what a message says.
func (c copyOf) apply(m received) {
	for _, p := range m.Permissions {
		if c[p.OptionID] = string(p.State); p.State == "" {
			delete(c, p.OptionID)
		}
	}
	for _, p := range m.Preferences {
		c[p.Preference] = fmt.Sprint(p.Choices)
	}
}

// expectCopy compares what a receiver holds with what applies.
func (w *world) expectCopy(url, ref string, got copyOf) {
	w.t.Helper()
	state, err := w.st.State(ctx, w.app, consent.CitizenKey{ExternalRef: ref})
	if err != nil {
		w.t.Fatal(err)
	}
	want := copyOf{}
	for _, p := range state.Projection.Effective(consent.At(time.Now())) {
		want[p.OptionID] = string(p.State)
	}
	for _, p := range state.Projection.Preferences() {
		choices := []struct{ Reference string }{}
		for _, c := range p.Choices {
			choices = append(choices, struct{ Reference string }{c.Reference})
		}
		want[p.Preference] = fmt.Sprint(choices)
	}
	if !maps.Equal(got, want) {
		w.t.Errorf("%s holds %v for %s, which is %v", url, got, ref, want)
	}
}

// expectCopiesByReceipts requires that every change has arrived as a receipt, and that
// a receiver that applies them by sentAt holds what applies.
func (w *world) expectCopiesByReceipts(seen []arrival, refs map[string]bool) {
	w.t.Helper()
	list, _, err := w.st.Changes(ctx, w.app, store.Place{}, 1_000_000)
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[string]map[int64]received{}
	for _, a := range seen {
		if a.url == receipts {
			if got[a.body.ExternalRef] == nil {
				got[a.body.ExternalRef] = map[int64]received{}
			}
			got[a.body.ExternalRef][a.body.Sequence] = a.body
		}
	}
	for _, v := range list {
		if _, ok := got[v.ExternalRef][v.Version]; !ok {
			w.t.Errorf("change %d of %s has not arrived as a receipt", v.Version, v.ExternalRef)
		}
	}
	for ref := range refs {
		copied := copyOf{}
		for _, m := range slices.SortedFunc(maps.Values(got[ref]), func(a, b received) int { return a.SentAt.Compare(b.SentAt) }) {
			copied.apply(m)
		}
		w.expectCopy(receipts, ref, copied)
	}
}

func (w *world) submit(ref string, jazz bool) {
	w.t.Helper()
	answer := consent.Answer{Preference: "interests", Label: "Interests", Choices: []consent.Chosen{}}
	if jazz {
		answer.Choices = append(answer.Choices, consent.Chosen{Reference: "jazz", Label: "Jazz"})
	}
	v := consent.Submission{Evidence: consent.Evidence{ID: store.NewID()}, Answer: answer}
	if _, err := w.st.Submit(ctx, w.app, consent.CitizenKey{ExternalRef: ref}, []consent.Submission{v}, store.Once{}); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(w.between)
}

func (w *world) revert(ref string, id consent.ID) {
	w.t.Helper()
	state, err := w.st.State(ctx, w.app, consent.CitizenKey{ExternalRef: ref})
	if err != nil {
		w.t.Fatal(err)
	}
	v := consent.Transaction{Evidence: consent.Evidence{ID: store.NewID(), Client: consent.Recorder{ID: "support"}}, Reverts: id}
	if _, err := w.st.Revert(ctx, w.app, state.CitizenID, v, store.Once{}); err != nil {
		w.t.Fatal(err)
	}
}

// Each change is a receipt of its own with what changed alone, in order, however many
// wait together.
func TestReceiptsAreNeverMerged(t *testing.T) {
	at := &endpoint{takes: 3 * time.Second}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribeReceipts()
		w.record("CUST-1", consent.Granted)
		w.submit("CUST-1", true)
		if _, err := w.st.Record(ctx, w.app, consent.CitizenKey{ExternalRef: "CUST-1"}, storetest.Transaction("newsletter-sms", consent.Consent, consent.Granted), store.Once{}); err != nil {
			t.Fatal(err)
		}
		w.record("CUST-1", consent.Denied)
		time.Sleep(time.Minute)
		var got []string
		for _, a := range at.seen(t) {
			c := copyOf{}
			c.apply(a.body)
			got = append(got, fmt.Sprintf("%d %v", a.body.Coalesced, c))
		}
		want := []string{"1 map[newsletter-email:GRANTED]", "1 map[interests:[{jazz}]]", "1 map[newsletter-sms:GRANTED]", "1 map[newsletter-email:DENIED]"}
		if !slices.Equal(got, want) {
			t.Fatalf("the receipts were %q, want %q", got, want)
		}
		seen := at.seen(t)
		for i := 1; i < len(seen); i++ {
			if a, b := seen[i-1], seen[i]; b.at.Sub(a.at) < 3*time.Second || b.body.Sequence <= a.body.Sequence || !b.body.SentAt.After(a.body.SentAt) {
				t.Fatalf("receipt %d does not follow the one before", i)
			}
		}
	})
}

// A receipt in the failures store holds back no later one, and keeps its sentAt when it
// is tried again.
func TestStoredReceiptHoldsBackNothing(t *testing.T) {
	at := &endpoint{}
	at.answer = func(n int, a arrival) (int, error) {
		if len(a.body.Permissions) == 1 && a.body.state("newsletter-email") == consent.Granted && n < 5 {
			return http.StatusInternalServerError, nil
		}
		return http.StatusOK, nil
	}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribeReceipts()
		began := time.Now()
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Millisecond)
		w.record("CUST-1", consent.Denied)
		time.Sleep(2 * time.Hour)
		seen := at.seen(t)
		if len(seen) != 5 {
			t.Fatalf("%d attempts, want three of the first receipt, one of the second, and one more of the first", len(seen))
		}
		first, second, again := seen[0], seen[3], seen[4]
		if second.body.state("newsletter-email") != consent.Denied || second.at.Sub(began) > 10*time.Second {
			t.Errorf("the second receipt came after %v: %+v", second.at.Sub(began), second.body)
		}
		if again.body.EventID != first.body.EventID || !again.body.SentAt.Equal(first.body.SentAt) || again.at.Sub(began) < time.Hour {
			t.Errorf("the first receipt came again after %v: %+v", again.at.Sub(began), again.body)
		}
		if cmp.Compare(second.body.SentAt.UnixMilli(), again.body.SentAt.UnixMilli()) <= 0 {
			t.Error("the receipt that was late looks newer than the one that overtook it")
		}
	})
}

// What changes while a subscription is paused is lost to it; the receipts that waited
// before are sent afterwards, all of them.
func TestPausedReceipts(t *testing.T) {
	at := &endpoint{answer: fail}
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribeReceipts()
		w.record("CUST-1", consent.Granted)
		w.record("CUST-1", consent.Denied)
		time.Sleep(time.Minute)
		w.change(id, func(v *consent.Subscription) { v.Status = consent.Paused })
		time.Sleep(time.Second)
		w.record("CUST-1", consent.Granted)
		w.record("CUST-2", consent.Granted)
		paused, err := w.st.Subscription(ctx, []int64{w.app}, id)
		if err != nil || paused.Missed != 2 {
			t.Fatalf("%d changes are said to be missed, %v", paused.Missed, err)
		}
		before := len(at.seen(t))
		at.behave(nil)
		time.Sleep(3 * time.Hour)
		w.change(id, func(v *consent.Subscription) { v.Status = consent.Active })
		w.record("CUST-1", consent.Denied)
		time.Sleep(3 * time.Hour)
		var got []string
		for _, a := range at.seen(t)[before:] {
			got = append(got, fmt.Sprint(a.body.ExternalRef, a.body.Sequence))
		}
		slices.Sort(got)
		if want := []string{"CUST-11", "CUST-12", "CUST-14"}; !slices.Equal(got, want) {
			t.Fatalf("after the pause arrived %v, want %v", got, want)
		}
	})
}

// Of an erased citizen the waiting receipts end, for nobody can read them any more;
// that the citizen is gone is told.
func TestErasureEndsReceipts(t *testing.T) {
	at := &endpoint{answer: fail}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribeReceipts()
		r := w.record("CUST-1", consent.Granted)
		time.Sleep(time.Minute)
		if err := w.st.EraseCitizen(ctx, w.app, consent.CitizenKey{ID: r.CitizenID}, "test"); err != nil {
			t.Fatal(err)
		}
		before := len(at.seen(t))
		at.behave(nil)
		time.Sleep(3 * time.Hour)
		got := at.seen(t)[before:]
		if len(got) != 1 || got[0].body.EventType != "citizen.deleted" || got[0].body.ExternalRef != "CUST-1" || got[0].body.Permissions == nil || len(got[0].body.Permissions) != 0 {
			t.Fatalf("after the erasure arrived %+v", got)
		}
	})
}

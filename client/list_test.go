package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/client"
)

// gather reads a list to its end, naming each entry.
func gather[T any](list iter.Seq2[T, error], name func(T) string) (names []string, err error) {
	for v, err := range list {
		if err != nil {
			return names, err
		}
		names = append(names, name(v))
	}
	return names, nil
}

// TestAll reads five entries of every kind on pages of two.
func TestAll(t *testing.T) {
	page := client.Page{Limit: 2, Offset: 7}
	for name, test := range map[string]struct {
		path, key, id string
		first         string // query of the first page
		read          func(context.Context, *client.Client) ([]string, error)
	}{
		"transactions": {
			"/v1/permissions/transactions", "transactions", "transactionId", "applicationId=nw&includeTotal=false&limit=2&offset=7",
			func(ctx context.Context, c *client.Client) ([]string, error) {
				return gather(c.AllTransactions(ctx, client.RecordsQuery{ApplicationID: "nw", Page: page}), func(v client.RecordedTransaction) string { return v.TransactionID })
			},
		},
		"submissions": {
			"/v1/submissions", "submissions", "submissionId", "applicationId=nw&includeTotal=false&limit=2&offset=7",
			func(ctx context.Context, c *client.Client) ([]string, error) {
				return gather(c.AllSubmissions(ctx, client.RecordsQuery{ApplicationID: "nw", Page: page}), func(v client.RecordedSubmission) string { return v.SubmissionID })
			},
		},
		"citizens who changed": {
			"/v1/permissions/effective", "citizens", "citizenId", "applicationId=nw&includeTotal=false&limit=2&offset=7",
			func(ctx context.Context, c *client.Client) ([]string, error) {
				return gather(c.AllEffective(ctx, client.EffectiveQuery{ApplicationID: "nw", Page: page}), func(v client.CitizenState) string { return v.CitizenID })
			},
		},
		"subscriptions": {
			"/v1/subscriptions", "subscriptions", "id", "applicationId=nw&includeTotal=false&limit=2&offset=7",
			func(ctx context.Context, c *client.Client) ([]string, error) {
				return gather(c.AllSubscriptions(ctx, client.SubscriptionsQuery{ApplicationID: "nw", Page: page}), func(v client.Subscription) string { return v.ID })
			},
		},
		"jobs": {
			"/v1/jobs", "jobs", "id", "applicationId=nw&includeTotal=false&limit=2&offset=7",
			func(ctx context.Context, c *client.Client) ([]string, error) {
				return gather(c.AllJobs(ctx, client.JobsQuery{ApplicationID: "nw", Page: page}), func(v client.Job) string { return v.ID })
			},
		},
		"history": {
			"/v1/citizens/ctz_1/history", "history", "hash", "limit=100",
			func(ctx context.Context, c *client.Client) ([]string, error) {
				return gather(c.AllHistory(ctx, "ctz_1"), func(v client.HistoryRecord) string { return v.Hash })
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			c := newClient(t, client.APIKey("k"), func(r *http.Request) (int, http.Header, string, error) {
				if r.URL.Path != test.path {
					t.Errorf("asked for %s", r.URL.Path)
				}
				q := r.URL.Query()
				at, _ := strconv.Atoi(q.Get("cursor"))
				calls++
				if calls == 1 && r.URL.RawQuery != test.first {
					t.Errorf("the first page was asked for by %s, want %s", r.URL.RawQuery, test.first)
				}
				if calls > 1 && q.Has("offset") {
					t.Errorf("page %d was asked for by cursor and offset: %s", calls, r.URL.RawQuery)
				}
				first, second, next := at, at+1, strconv.Quote(fmt.Sprint(at+2))
				if at == 4 {
					return 200, nil, fmt.Sprintf(`{%q:[{%q:"4"}],"nextCursor":null}`, test.key, test.id), nil
				}
				return 200, nil, fmt.Sprintf(`{%q:[{%[2]q:"%[3]d"},{%[2]q:"%[4]d"}],"nextCursor":%[5]s}`, test.key, test.id, first, second, next), nil
			})
			got, err := test.read(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"0", "1", "2", "3", "4"}, got); diff != "" {
				t.Errorf("the entries (-want +got):\n%s", diff)
			}
			if calls != 3 {
				t.Errorf("%d calls, want 3", calls)
			}
		})
	}
}

func TestAllEndsWithTheFirstError(t *testing.T) {
	calls := 0
	c := newClient(t, client.APIKey("k"), func(*http.Request) (int, http.Header, string, error) {
		if calls++; calls == 2 {
			return 422, problem(), `{"title":"No"}`, nil
		}
		return 200, nil, `{"transactions":[{"transactionId":"t1"}],"nextCursor":"c"}`, nil
	})
	var got []string
	for v, err := range c.AllTransactions(t.Context(), client.RecordsQuery{}) {
		var p *client.Problem
		if errors.As(err, &p) {
			got = append(got, fmt.Sprint(p.Status))
		} else {
			got = append(got, v.TransactionID)
		}
	}
	if diff := cmp.Diff([]string{"t1", "422"}, got); diff != "" {
		t.Errorf("what was given (-want +got):\n%s", diff)
	}
	for _, err := range c.AllTransactions(t.Context(), client.RecordsQuery{}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	if calls != 3 {
		t.Errorf("%d calls, want 2 and then, for a loop that is left at once, 1", calls)
	}
}

func TestChangesFollowsTheFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var asked []string
		c := newClient(t, client.APIKey("k"), func(r *http.Request) (int, http.Header, string, error) {
			asked = append(asked, r.URL.RawQuery)
			switch len(asked) {
			case 1:
				return 200, nil, `{"changes":[{"sequence":1},{"sequence":2}],"nextCursor":"b"}`, nil
			case 2:
				time.Sleep(20 * time.Second) // nothing came while the server waited
				return 200, nil, `{"changes":[],"nextCursor":"c"}`, nil
			case 3:
				return 500, problem(), `{"title":"Broken"}`, nil
			case 4:
				return 200, nil, `{"changes":[{"sequence":3}],"nextCursor":"d"}`, nil
			}
			time.AfterFunc(5*time.Second, cancel)
			<-r.Context().Done()
			return 0, nil, "", r.Context().Err()
		})
		start := time.Now()
		var got []string
		for list, err := range c.Changes(ctx, client.ChangesQuery{ApplicationID: "nw", Cursor: "a"}) {
			if err != nil {
				got = append(got, err.Error())
				continue
			}
			for _, v := range list.Changes {
				got = append(got, fmt.Sprint(v.Sequence))
			}
			got = append(got, list.NextCursor)
		}
		if diff := cmp.Diff([]string{"1", "2", "b", "500 Broken", "3", "d"}, got); diff != "" {
			t.Errorf("what was given (-want +got):\n%s", diff)
		}
		want := []string{}
		for _, cursor := range []string{"a", "b", "c", "c", "d"} {
			want = append(want, "applicationId=nw&cursor="+cursor+"&limit=100&wait=20")
		}
		if !slices.Equal(asked, want) {
			t.Errorf("asked by\n%q, want\n%q", asked, want)
		}
		if took := time.Since(start); took < 25*time.Second+100*time.Millisecond || took > 26*time.Second {
			t.Errorf("took %v: it must pause after an error, and end with its context", took)
		}
	})
}

package consent

import (
	"slices"
	"strings"
)

// Permission is one entry of the effective state with the evidence behind it. Its
// JSON form is the published one of the webhooks and of GET /v1/permissions: every
// key is always present, null where unknown.
type Permission struct {
	TransactionID          ID            `json:"transactionId"`
	OptionType             OptionType    `json:"optionType"`
	OptionID               string        `json:"optionId"`
	Justification          Justification `json:"justification"`
	State                  State         `json:"state"` // empty for an entry that ceased
	Channel                Text          `json:"channel"`
	Campaign               Text          `json:"campaign"`
	PrivacyPolicyID        Text          `json:"privacyPolicyId"`
	PrivacyPolicyRef       Text          `json:"privacyPolicyRef"`
	PermissionStatementID  Text          `json:"permissionStatementId"`
	PermissionStatementRef Text          `json:"permissionStatementRef"`
	RecordedBy             Text          `json:"recordedBy"`
	RecordedByName         Text          `json:"recordedByName"`
	RecordedClient         Text          `json:"recordedClient"`
	RecordedClientName     Text          `json:"recordedClientName"`
	DelegatedAuthorityID   Text          `json:"delegatedAuthorityId"`
	DelegatedAuthorityName Text          `json:"delegatedAuthorityName"`
	RecordedAt             Timestamp     `json:"recordedAt"`
	ObtainedAt             Timestamp     `json:"obtainedAt"`
	ValidFrom              Timestamp     `json:"validFrom"`
	ValidUntil             Timestamp     `json:"validUntil"`
}

func (p *Permission) key() Key { return Key{p.OptionType, p.OptionID} }

// entry is the candidate as an entry, on the evidence e.
func (c *candidate) entry(e *Evidence) Permission {
	p := Permission{
		TransactionID: e.ID,
		OptionType:    c.key.Type, OptionID: c.key.ID, Justification: c.basis, State: c.state,
		Channel: Text(e.Channel), Campaign: Text(e.Campaign),
		RecordedBy: Text(e.Attribution.RecordedBy), RecordedByName: Text(e.Attribution.RecordedByName),
		RecordedClient: Text(e.Client.ID), RecordedClientName: Text(e.Client.Name),
		DelegatedAuthorityID: Text(e.Attribution.DelegatedAuthorityID), DelegatedAuthorityName: Text(e.Attribution.DelegatedAuthorityName),
		RecordedAt: Timestamp(e.RecordedAt), ObtainedAt: Timestamp(e.ObtainedAt), ValidFrom: Timestamp(c.from), ValidUntil: Timestamp(c.until),
	}
	if e.Policy != nil {
		p.PrivacyPolicyID, p.PrivacyPolicyRef = Text(e.Policy.ID), Text(e.Policy.Ref)
	}
	if e.Statement != nil {
		p.PermissionStatementID, p.PermissionStatementRef = Text(e.Statement.ID), Text(e.Statement.Ref)
	}
	return p
}

// CurrentPreference is the current answer to one preference. Its JSON form is the
// published one of the webhooks.
type CurrentPreference struct {
	Preference   string          `json:"preference"`
	Choices      []CurrentChoice `json:"choices"`
	Label        Text            `json:"label"`
	SubmissionID ID              `json:"submissionId"`
	UpdatedAt    Timestamp       `json:"updatedAt"` // when the answer was obtained
}

// CurrentChoice is one choice of a current answer.
type CurrentChoice struct {
	Reference string `json:"reference"`
	Label     Text   `json:"label"`
}

func (s *Submission) current() CurrentPreference {
	p := CurrentPreference{
		Preference: s.Answer.Preference, Choices: make([]CurrentChoice, len(s.Answer.Choices)), Label: Text(s.Answer.Label),
		SubmissionID: s.ID, UpdatedAt: Timestamp(s.obtained()),
	}
	for i, c := range s.Answer.Choices {
		p.Choices[i] = CurrentChoice{c.Reference, Text(c.Label)}
	}
	return p
}

// FullState is everything that applies to a citizen at one instant, as the messages
// carry it: entries that existed and ended are listed too, with no state.
type FullState struct {
	Permissions []Permission        `json:"permissions"`
	Preferences []CurrentPreference `json:"preferences"`
}

// Since gives what is new in f compared with an earlier state of the same citizen.
func (f FullState) Since(before FullState) FullState {
	news := FullState{Permissions: []Permission{}, Preferences: []CurrentPreference{}}
	for _, p := range f.Permissions {
		if !slices.Contains(before.Permissions, p) {
			news.Permissions = append(news.Permissions, p)
		}
	}
	for _, p := range f.Preferences {
		if !slices.ContainsFunc(before.Preferences, func(o CurrentPreference) bool { return o.SubmissionID == p.SubmissionID }) {
			news.Preferences = append(news.Preferences, p)
		}
	}
	return news
}

// With gives the state after what is new in it: each entry of news in place of the one
// before.
func (f FullState) With(news FullState) FullState {
	out := FullState{slices.Clone(f.Permissions), slices.Clone(f.Preferences)}
	for _, p := range news.Permissions {
		at, known := slices.BinarySearchFunc(out.Permissions, p.key(), func(o Permission, k Key) int { return o.key().compare(k) })
		if known {
			out.Permissions[at] = p
		} else {
			out.Permissions = slices.Insert(out.Permissions, at, p)
		}
	}
	for _, p := range news.Preferences {
		at, known := slices.BinarySearchFunc(out.Preferences, p.Preference, func(o CurrentPreference, name string) int { return strings.Compare(o.Preference, name) })
		if known {
			out.Preferences[at] = p
		} else {
			out.Preferences = slices.Insert(out.Preferences, at, p)
		}
	}
	return out
}

// Empty reports whether nothing is listed.
func (f FullState) Empty() bool { return len(f.Permissions) == 0 && len(f.Preferences) == 0 }

// Shifts reports whether news changes a state or a choice of what was before, rather
// than the evidence for it alone.
func (f FullState) Shifts(before FullState) bool {
	return slices.ContainsFunc(f.Permissions, func(p Permission) bool {
		return !slices.ContainsFunc(before.Permissions, func(o Permission) bool { return o.key() == p.key() && o.State == p.State })
	}) || slices.ContainsFunc(f.Preferences, func(p CurrentPreference) bool {
		return !slices.ContainsFunc(before.Preferences, func(o CurrentPreference) bool {
			return o.Preference == p.Preference && slices.EqualFunc(o.Choices, p.Choices, func(a, b CurrentChoice) bool { return a.Reference == b.Reference })
		})
	})
}

// Echo reports whether news is what these transactions and submissions wrote, all of it
// and nothing else: whoever wrote that knows it already.
func Echo(transactions []Transaction, submissions []Submission, news FullState) bool {
	changes := 0
	for _, t := range transactions {
		changes += len(t.Changes)
		if slices.ContainsFunc(t.Changes, func(c Change) bool {
			return !slices.ContainsFunc(news.Permissions, func(p Permission) bool {
				return p.TransactionID == t.ID && p.key() == Key{c.OptionType, c.OptionID} && p.State == c.State
			})
		}) {
			return false
		}
	}
	return len(news.Permissions) == changes && len(news.Preferences) == len(submissions) && !slices.ContainsFunc(submissions, func(s Submission) bool {
		return !slices.ContainsFunc(news.Preferences, func(p CurrentPreference) bool { return p.SubmissionID == s.ID })
	})
}

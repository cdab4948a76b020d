package client

import (
	"cmp"
	"iter"
	"net/url"
)

// maxLimit is the most entries that one page can have.
const maxLimit = 100

// Page says which part of a list to give. The zero Page is its first 20 entries.
type Page struct {
	Limit  int    // 1 to 100; zero means 20
	Offset int    // how many entries to pass over
	Cursor string // the NextCursor of an earlier page, instead of an Offset

	uncounted bool // spares the server the Total
}

// values builds the query of a list out of pairs of name and value and the page.
func (p Page) values(pairs ...string) url.Values {
	q := values(append(pairs, "limit", number(p.Limit), "offset", number(p.Offset), "cursor", p.Cursor)...)
	if p.uncounted {
		q.Set("includeTotal", "false")
	}
	return q
}

// all gives the entries of a list from a page on; read reads one page and gives the
// cursor of the next. Pages are as long as they can be unless start says otherwise. An
// error is the last that is given.
func all[T any](start Page, read func(Page) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		p := start
		p.Limit, p.uncounted = cmp.Or(p.Limit, maxLimit), true
		for {
			entries, next, err := read(p)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			p.Cursor, p.Offset = next, 0
		}
	}
}

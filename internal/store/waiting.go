package store

import "context"

// Waiting counts the messages that wait for a subscription, those in the failures store
// included, to 10,000; more reports that there are more than that.
func (s *Store) Waiting(ctx context.Context, subscription int64) (n int64, more bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM lane WHERE subscription = $1
		UNION ALL SELECT 1 FROM delivery_failure WHERE subscription = $1
		UNION ALL SELECT 1 FROM receipt WHERE subscription = $1 LIMIT $2) AS first`, subscription, maxBacklog+1).Scan(&n)
	return min(n, maxBacklog), n > maxBacklog, s.classify(err)
}

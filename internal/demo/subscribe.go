package demo

import (
	"context"

	"github.com/opencpm/opencpm/client"
)

// Subscribe points the webhook of that name and type at a URL; the first time it is
// created.
func Subscribe(ctx context.Context, c *client.Client, applicationID, name, updateType, url string) error {
	for s, err := range c.AllSubscriptions(ctx, client.SubscriptionsQuery{ApplicationID: applicationID}) {
		if err != nil {
			return err
		}
		if s.Name == name {
			s.URL = url
			_, err := c.UpdateSubscription(ctx, s.ID, s)
			return err
		}
	}
	_, err := c.CreateSubscription(ctx, client.Subscription{ApplicationID: applicationID, Name: name, URL: url, UpdateType: updateType})
	return err
}

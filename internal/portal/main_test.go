package portal_test

import (
	"testing"

	"github.com/opencpm/opencpm/internal/web/webtest"
)

func TestMain(m *testing.M) { webtest.Main(m) }

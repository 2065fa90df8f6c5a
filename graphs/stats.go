package graphs

import (
	"time"

	"github.com/euryale-ml/euryale/offload"
)

// OffloadStats is what offloading took for an image.
type OffloadStats struct {
	Strategy string
	Peak     int           // bytes of device memory
	Uploaded int64         // bytes
	CopyTime time.Duration // the copy engine was busy
	Stalled  time.Duration // calls waited for it

	Plan      *offload.Plan
	Inventory *offload.Inventory
	Events    []offload.Event // with WithTrace
}

// Hidden is the share of the copies' time behind which something was computed.
func (s *OffloadStats) Hidden() float64 {
	if s.CopyTime == 0 {
		return 1
	}
	return max(0, 1-s.Stalled.Seconds()/s.CopyTime.Seconds())
}

package graphs

import "github.com/euryale-ml/euryale/offload"

// MeasureSmall is MeasureProfile with little to do, for a device that is emulated.
func MeasureSmall(o DeviceOption) (offload.Profile, error) { return measureProfile(o, 1, 8, 1<<16) }

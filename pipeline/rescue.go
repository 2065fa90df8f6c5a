package pipeline

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/hfconfig"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/sched"
)

// rescue is what stands in the way of the model's own scheduler, if anything does. Requests that name another are not
// held up by it.
type rescue struct {
	err      error
	warnings []string // for who names another
}

const schedulerFile = "scheduler/scheduler_config.json"

// usualScheduler is read where a model has no scheduler config that can be read: the noise with which Stable Diffusion
// and SDXL were trained, as diffusers assumes it for a single file (SCHEDULER_DEFAULT_CONFIG).
const usualScheduler = `{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
	"num_train_timesteps": 1000, "prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 1,
	"skip_prk_steps": true, "set_alpha_to_one": false, "clip_sample": false}`

// readScheduler reads the model's scheduler, and what prevents it.
func (p *TextToImage) readScheduler(m *loader.Model) {
	class, raw := "", []byte(nil)
	_, err := m.Component("scheduler")
	// Component refuses classes of other libraries, but the config of such a one may be of use to another.
	components := m.Components()
	unread := err
	if i := slices.IndexFunc(components, func(c *loader.Component) bool { return c.Name == "scheduler" }); i >= 0 {
		class = components[i].Class
		if raw, unread = components[i].File("scheduler_config.json"); unread == nil {
			unread = hfconfig.Parse(schedulerFile, raw).Err()
		}
	}
	if unread != nil {
		raw, err = []byte(usualScheduler), cmp.Or(err, unread)
		p.rescue.warnings = []string{fmt.Sprintf("%v: the noise of Stable Diffusion is assumed (scaled_linear, beta 0.00085 to "+
			"0.012, epsilon), which may not be this model's", unread)}
	}
	p.scheduler = sched.PipelineConfig(m.Class(), class, schedulerFile, raw)
	if err == nil {
		_, err = sched.New(p.scheduler, "")
	}
	p.rescue.err = err
}

// checkScheduler refuses the model's own scheduler if it cannot be made.
func (p *TextToImage) checkScheduler(r Request) error {
	if r.Scheduler == "" && r.CustomScheduler == nil {
		return p.rescue.err
	}
	return nil
}

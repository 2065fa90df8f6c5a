package sched_test

import (
	"fmt"

	"github.com/euryale-ml/euryale/sched"
)

// Image-to-image of a sample of one number, with a model that predicts no noise at all.
func ExampleBegin() {
	cfg, err := sched.ParseConfig("scheduler_config.json", []byte(`{"_class_name": "EulerDiscreteScheduler"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := sched.New(cfg, "dpm++2m")
	if err != nil {
		fmt.Println(err)
		return
	}
	first, err := sched.FirstStep(10, 0.3)
	if err != nil {
		fmt.Println(err)
		return
	}
	sampler := sched.NewSampler(s)
	if err := sampler.Begin(sched.Run{Steps: 10, First: first, FromImage: true}); err != nil {
		fmt.Println(err)
		return
	}
	signal, noise := s.(sched.Mixer).Mix(first)
	const clean, eps = 2, 0
	sample := []float32{float32(signal*clean + noise*eps)}
	for i := first; i < len(sampler.Timesteps()); i++ {
		fmt.Printf("step %d at timestep %g: %.3f\n", i, sampler.Timesteps()[i], sample[0])
		if err := sampler.Take([]float32{eps}, sample, i, sched.Options{}); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Printf("in the end %.3f\n", sample[0])
	// Output:
	// step 7 at timestep 300: 1.255
	// step 8 at timestep 200: 1.620
	// step 9 at timestep 100: 1.892
	// in the end 2.000
}

module github.com/euryale-ml/euryale

go 1.25.0

require (
	github.com/chewxy/hm v1.0.0
	github.com/pkg/errors v0.9.1
	// Without this pin any program that imports Gorgonia panics at start on Go 1.21 and later.
	go4.org/unsafe/assume-no-moving-gc v0.0.0-20231121144256-b99613f794b6
	golang.org/x/sys v0.29.0
	golang.org/x/text v0.21.0
	gorgonia.org/gorgonia v0.9.18
	gorgonia.org/tensor v0.9.24
)

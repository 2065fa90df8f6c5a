package layers

import "github.com/euryale-ml/euryale/internal/ops"

// HW is a number for the height and one for the width. A sequence has a width alone.
type HW struct{ H, W int }

// Square is the same for both.
func Square(n int) HW { return HW{n, n} }

// or fills in what is not given.
func (n HW) or(other HW) HW {
	if n.H == 0 {
		n.H = other.H
	}
	if n.W == 0 {
		n.W = other.W
	}
	return n
}

// Sides is numbers of rows and columns around an image, or with Left and Right alone before and after a sequence.
type Sides struct{ Top, Left, Bottom, Right int }

// Around is the same on all sides of an image.
func Around(n int) Sides { return Sides{n, n, n, n} }

// window is where a filter or a pool looks. A dilation of 0 is 1.
func window(kernel, stride, dilation HW, pad Sides) ops.Window {
	return ops.Window{Kernel: ops.HW(kernel), Stride: ops.HW(stride), Dilation: ops.HW(dilation.or(Square(1))),
		Pad: ops.Padding(pad)}
}

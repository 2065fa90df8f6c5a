package cpu

// Activation is an element-wise function applied to a result.
type Activation uint8

const (
	None      Activation = iota
	SiLU                 // x * sigmoid(x)
	GELU                 // x * Phi(x), the exact form (erf)
	QuickGELU            // x * sigmoid(1.702 x), as CLIP's
	GEGLU                // of columns value|gate: value * GELU(gate), half as many columns
	GELUTanh             // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
	ReLU                 // max(x, 0)
	Tanh
)

func (a Activation) String() string {
	return [...]string{"none", "SiLU", "GELU", "QuickGELU", "GEGLU", "GELUTanh", "ReLU", "Tanh"}[a]
}

// Epilogue is what Linear and Conv do to their sums before they store them:
//
//	C = act(sum + bias + channels) + residual
type Epilogue struct {
	Bias           []float32 // [N]
	Channels       []float32 // [B N], added to every row of the image
	ChannelsStride int       // rows per image; needed with Channels
	Act            Activation
	Residual       []float32 // like C, and may be C itself
}

// cols is the number of columns of C for n columns of sums.
func (ep *Epilogue) cols(n int) int {
	if ep.Act == GEGLU {
		return n / 2
	}
	return n
}

func (ep *Epilogue) check(op string, m, n int) {
	if ep.Act == GEGLU && n%2 != 0 {
		panic("cpu: " + op + ": GEGLU of an odd number of columns")
	}
	if ep.Bias != nil {
		check(op, "bias", len(ep.Bias), n)
	}
	if ep.Channels != nil {
		if ep.ChannelsStride <= 0 || m%ep.ChannelsStride != 0 {
			panic("cpu: " + op + ": ChannelsStride does not divide the rows")
		}
		check(op, "channels", len(ep.Channels), m/ep.ChannelsStride*n)
	}
	if ep.Residual != nil {
		check(op, "residual", len(ep.Residual), m*ep.cols(n))
	}
}

// shift writes bias + channels of columns [n0,n0+len(dst)) for one image, zero where there is neither.
func (ep *Epilogue) shift(k *kernels, dst []float32, image, n, n0 int) {
	clear(dst)
	if cols := min(n, n0+len(dst)) - n0; cols > 0 {
		if ep.Bias != nil {
			copy(dst, ep.Bias[n0:n0+cols])
		}
		if ep.Channels != nil {
			k.add(dst[:cols], dst[:cols], ep.Channels[image*n+n0:][:cols])
		}
	}
}

// finish stores one row of sums: out = act(sum + shift) + residual. For GEGLU gate is the offset of the gate
// columns in sum and shift.
func (ep *Epilogue) finish(k *kernels, out, sum, shift, residual []float32, gate int) {
	n := len(out)
	switch {
	case ep.Act == None && residual != nil:
		k.add3(out, sum[:n], shift[:n], residual)
		return
	case ep.Act == None:
		k.add(out, sum[:n], shift[:n])
		return
	case ep.Act == GEGLU:
		k.add(sum, sum, shift)
		k.geglu(sum[:n], sum[:n], sum[gate:gate+n])
	default:
		k.add(sum[:n], sum[:n], shift[:n])
		k.activate(sum[:n], sum[:n], ep.Act)
	}
	if residual != nil {
		k.add(out, sum[:n], residual)
	} else {
		copy(out, sum[:n])
	}
}

// The kernels of kernels.cu for a device.
#pragma once

static const char *kernels_ptx = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .entry contract_fill(
	.param .align 8 .b8 contract_fill_param_0[16]
)
.maxntid 256, 1, 1
{
	.reg .pred %p<2>;
	.reg .b32 %r<8>;
	.reg .b64 %rd<8>;
	ld.param.u64 %rd1, [contract_fill_param_0];
	ld.param.u32 %r1, [contract_fill_param_0+8];
	ld.param.u32 %r2, [contract_fill_param_0+12];
	mov.u32 %r3, %ctaid.x;
	mov.u32 %r4, %tid.x;
	mad.lo.u32 %r5, %r3, 256, %r4;
	setp.ge.u32 %p1, %r5, %r1;
	@%p1 bra DONE;
	cvta.to.global.u64 %rd2, %rd1;
	mul.wide.u32 %rd3, %r5, 4;
	add.u64 %rd4, %rd2, %rd3;
	st.global.u32 [%rd4], %r2;
DONE:
	ret;
}

.visible .entry contract_add(
	.param .align 8 .b8 contract_add_param_0[16]
)
.maxntid 256, 1, 1
{
	.reg .pred %p<2>;
	.reg .b32 %r<8>;
	.reg .b64 %rd<8>;
	ld.param.u64 %rd1, [contract_add_param_0];
	ld.param.u32 %r1, [contract_add_param_0+8];
	ld.param.u32 %r2, [contract_add_param_0+12];
	mov.u32 %r3, %ctaid.x;
	mov.u32 %r4, %tid.x;
	mad.lo.u32 %r5, %r3, 256, %r4;
	setp.ge.u32 %p1, %r5, %r1;
	@%p1 bra DONE;
	cvta.to.global.u64 %rd2, %rd1;
	mul.wide.u32 %rd3, %r5, 4;
	add.u64 %rd4, %rd2, %rd3;
	ld.global.u32 %r6, [%rd4];
	add.u32 %r7, %r6, %r2;
	st.global.u32 [%rd4], %r7;
DONE:
	ret;
}

.extern .shared .align 16 .b8 room[];

.visible .entry contract_reverse(
	.param .align 8 .b8 contract_reverse_param_0[16]
)
.maxntid 256, 1, 1
{
	.reg .b32 %r<16>;
	.reg .b64 %rd<8>;
	ld.param.u64 %rd1, [contract_reverse_param_0];
	ld.param.u32 %r1, [contract_reverse_param_0+8];
	mov.u32 %r2, %tid.x;
	mov.u32 %r3, room;
	add.u32 %r4, %r3, %r1;
	sub.u32 %r5, %r4, 1024;
	mad.lo.u32 %r6, %r2, 4, %r5;
	cvta.to.global.u64 %rd2, %rd1;
	mul.wide.u32 %rd3, %r2, 4;
	add.u64 %rd4, %rd2, %rd3;
	ld.global.u32 %r7, [%rd4];
	st.shared.u32 [%r6], %r7;
	bar.sync 0;
	mov.u32 %r8, 255;
	sub.u32 %r9, %r8, %r2;
	mad.lo.u32 %r10, %r9, 4, %r5;
	ld.shared.u32 %r11, [%r10];
	st.global.u32 [%rd4], %r11;
	ret;
}

.visible .entry contract_spin(
	.param .align 8 .b8 contract_spin_param_0[16]
)
.maxntid 256, 1, 1
{
	.reg .pred %p<2>;
	.reg .b32 %r<2>;
	.reg .b64 %rd<8>;
	ld.param.u32 %r1, [contract_spin_param_0+12];
	mul.wide.u32 %rd1, %r1, 1000000;
	mov.u64 %rd2, %clock64;
AGAIN:
	mov.u64 %rd3, %clock64;
	sub.u64 %rd4, %rd3, %rd2;
	setp.lt.u64 %p1, %rd4, %rd1;
	@%p1 bra AGAIN;
	ret;
}
)";

/* kernels.cu - what the tests run on a GPU: fill a range, count its wrong bytes, be busy, fail. */
typedef unsigned char u8;
typedef unsigned long long u64;

/* As tests/gpu/gpu.h has it. */
struct gpu_range {
	const u8 *at;
	u64 size_bytes;
	u64 seed;
};

/* gpu_pattern_word() of tests/gpu/gpu.c, on this side. */
__device__ static u64
pattern_word(u64 seed, u64 idx)
{
	u64 x = seed + (idx + 1) * 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

__device__ static u8
pattern_byte(u64 seed, u64 at)
{
	return (u8)(pattern_word(seed, at / 8) >> (at % 8 * 8));
}

extern "C" __global__ void
gpu_kernel_fill(u8 *to, u64 size_bytes, u64 seed)
{
	u64 step = (u64)gridDim.x * blockDim.x;
	u64 first = (u64)blockIdx.x * blockDim.x + threadIdx.x;

	if ((u64)to % 8 == 0) {
		for (u64 i = first; i < size_bytes / 8; i += step)
			((u64 *)to)[i] = pattern_word(seed, i);
		first += size_bytes / 8 * 8;
	}
	for (u64 i = first; i < size_bytes; i += step)
		to[i] = pattern_byte(seed, i);
}

/* One row of the grid for each range. */
extern "C" __global__ void
gpu_kernel_check(const struct gpu_range *ranges, u64 *wrong)
{
	struct gpu_range range = ranges[blockIdx.y];
	u64 step = (u64)gridDim.x * blockDim.x;
	u64 first = (u64)blockIdx.x * blockDim.x + threadIdx.x;
	u64 count = 0;

	if ((u64)range.at % 8 == 0) {
		for (u64 i = first; i < range.size_bytes / 8; i += step) {
			u64 differs = ((const u64 *)range.at)[i] ^ pattern_word(range.seed, i);

			for (; differs != 0; differs >>= 8)
				count += (differs & 255) != 0;
		}
		first += range.size_bytes / 8 * 8;
	}
	for (u64 i = first; i < range.size_bytes; i += step)
		count += range.at[i] != pattern_byte(range.seed, i);
	if (count != 0)
		atomicAdd(wrong, count);
}

__device__ static u64
now_ns(void)
{
	u64 now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	return now;
}

/* Computes until somebody says that it is enough, at most @ns_max; word i of @began says that block i
 * does. Both are the host's memory: one thread looks, and seldom, so that copies have the bus. */
extern "C" __global__ void
gpu_kernel_spin(const volatile unsigned *enough, volatile unsigned *began, u64 ns_max)
{
	__shared__ volatile unsigned stop;
	u64 start = now_ns(), looked = start;

	if (threadIdx.x == 0) {
		stop = 0;
		began[blockIdx.x] = 1;
	}
	__syncthreads();
	while (stop == 0) {
		u64 now = now_ns();

		if (threadIdx.x == 0 && (now - looked > 20000 || now - start > ns_max)) {
			looked = now;
			if (*enough != 0 || now - start > ns_max)
				stop = 1;
		}
	}
}

extern "C" __global__ void
gpu_kernel_fault(unsigned *nowhere)
{
	*nowhere = 1;
}

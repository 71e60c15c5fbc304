/* A stand-in for NVIDIA's driver library: two GPUs, the second of which is a slice that tells only its memory.

   Numbers of errors, types and units are those of NVIDIA's reference of NVML. */

#include <stdint.h>
#include <stdio.h>

#define SUCCESS 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3

typedef struct { uint64_t total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;

static int whole, slice;

static int only_whole(const void *device) { return device == &whole ? SUCCESS : NOT_SUPPORTED; }

int nvmlInitWithFlags(unsigned flags) { return flags == 0 ? SUCCESS : INVALID_ARGUMENT; }

int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = 2;
  return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  *device = index == 0 ? &whole : &slice;
  return index < 2 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned length) {
  snprintf(text, length, device == &whole ? "GPU-1" : "MIG-2");
  return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *text, unsigned length) {
  (void)device;
  snprintf(text, length, "Stand-in");
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
  uint64_t total = device == &whole ? 80000000000 : 10000000000;
  *memory = (Memory){total, total - 1000000000, 1000000000};
  return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, Utilization *found) {
  *found = (Utilization){75, 40};
  return only_whole(device);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
  *milliwatts = 250500;
  return only_whole(device);
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, uint64_t *millijoules) {
  *millijoules = 123456789;
  return only_whole(device);
}

int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
  *celsius = 61;
  return sensor == 0 ? only_whole(device) : INVALID_ARGUMENT;
}

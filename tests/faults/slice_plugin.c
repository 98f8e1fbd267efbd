// A PJRT plugin that is one of two hosts of a slice with two chips each, as far as this can be played: it joins the hosts by
// itself, says which devices belong to which, and adds up over all of them. A host whose other half has ended waits for it, as
// on a slice. It compiles nothing else, unless there is $SLICE_TRAINS: then a step of training or evaluation waits for the
// other host's, and leaves the weights as they are.
//
// $SLICE_PROCESS is the number of this host. $SLICE_FOLDER has the two pipes through which the hosts hear of each other,
// `from-0` and `from-1`.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "xla/pjrt/c/pjrt_c_api.h"

enum { HOSTS = 2, CHIPS = 2, ALL = HOSTS * CHIPS };

// Longer than any test takes: a host whose other half is gone ends.
enum { PATIENCE_S = 600 };

// Arrays of the training state, with momentum: weights, moving statistics, velocities.
enum { STATE = 3 };
// Values in the metrics of a step, and which of them is the number of images.
enum { METRICS = 4, COUNT = 2 };
// Classes of the sample.
enum { CLASSES = 10 };

// What can be compiled, by its name and with its number of outputs.
typedef struct {
  const char* name;
  int outputs;
} Known;
static Known sum = {"sum_over_replicas", 1}, train = {"train_step", STATE + 1}, eval = {"eval_step", 2};

static int client, failure;
static const char* reason;
static int numbers[ALL] = {0, 1, 2, 3};

static int Process(void) { return atoi(getenv("SLICE_PROCESS")); }

static PJRT_Error* Fail(const char* why) {
  reason = why;
  return (PJRT_Error*)&failure;
}

static void Message(PJRT_Error_Message_Args* args) {
  args->message = reason;
  args->message_size = strlen(reason);
}

static PJRT_Error* Initialize(PJRT_Plugin_Initialize_Args* args) { return NULL; }

static PJRT_Error* CreateClient(PJRT_Client_Create_Args* args) {
  alarm(PATIENCE_S);
  args->client = (PJRT_Client*)&client;
  return NULL;
}

static PJRT_Error* PlatformName(PJRT_Client_PlatformName_Args* args) {
  args->platform_name = "tpu";
  args->platform_name_size = strlen(args->platform_name);
  return NULL;
}

// As on a slice, neighbours are not always of one host: it has every second device.
static int ProcessOf(int number) { return number % HOSTS; }

static PJRT_Error* Devices(PJRT_Client_Devices_Args* args) {
  static PJRT_Device* all[ALL];
  for (int i = 0; i < ALL; ++i) all[i] = (PJRT_Device*)&numbers[i];
  args->devices = all;
  args->num_devices = ALL;
  return NULL;
}

static PJRT_Error* OwnDevices(PJRT_Client_AddressableDevices_Args* args) {
  static PJRT_Device* own[CHIPS];
  int count = 0;
  for (int i = 0; i < ALL; ++i) {
    if (ProcessOf(i) == Process()) own[count++] = (PJRT_Device*)&numbers[i];
  }
  args->addressable_devices = own;
  args->num_addressable_devices = CHIPS;
  return NULL;
}

static PJRT_Error* Describe(PJRT_Device_GetDescription_Args* args) {
  args->device_description = (PJRT_DeviceDescription*)args->device;
  return NULL;
}

static int Number(PJRT_DeviceDescription* description) { return *(int*)description; }

static PJRT_Error* DeviceId(PJRT_DeviceDescription_Id_Args* args) {
  args->id = Number(args->device_description);
  return NULL;
}

static PJRT_Error* DeviceProcess(PJRT_DeviceDescription_ProcessIndex_Args* args) {
  args->process_index = ProcessOf(Number(args->device_description));
  return NULL;
}

static PJRT_Error* DeviceKind(PJRT_DeviceDescription_Kind_Args* args) {
  args->device_kind = "a chip that is played";
  args->device_kind_size = strlen(args->device_kind);
  return NULL;
}

static PJRT_Error* DeviceName(PJRT_DeviceDescription_ToString_Args* args) {
  static char names[ALL][16];
  int number = Number(args->device_description);
  snprintf(names[number], sizeof(names[number]), "chip %d", number);
  args->to_string = names[number];
  args->to_string_size = strlen(args->to_string);
  return NULL;
}

// An array of values of four bytes, in one dimension.
typedef struct {
  int64_t size;
  float values[];
} Array;

static Array* NewArray(int64_t size) {
  Array* array = calloc(1, sizeof(Array) + size * sizeof(float));
  array->size = size;
  return array;
}

static PJRT_Error* Upload(PJRT_Client_BufferFromHostBuffer_Args* args) {
  if (args->type != PJRT_Buffer_Type_F32 && args->type != PJRT_Buffer_Type_S32) {
    return Fail("expected f32 or s32");
  }
  int64_t size = 1;
  for (size_t i = 0; i < args->num_dims; ++i) size *= args->dims[i];
  Array* array = NewArray(size);
  memcpy(array->values, args->data, array->size * sizeof(float));
  args->buffer = (PJRT_Buffer*)array;
  return NULL;
}

static PJRT_Error* ElementType(PJRT_Buffer_ElementType_Args* args) {
  args->type = PJRT_Buffer_Type_F32;
  return NULL;
}

static PJRT_Error* Dimensions(PJRT_Buffer_Dimensions_Args* args) {
  args->dims = &((Array*)args->buffer)->size;
  args->num_dims = 1;
  return NULL;
}

static PJRT_Error* Await(PJRT_Event_Await_Args* args) { return NULL; }

// Nothing is done meanwhile, so there is no event.
static PJRT_Error* OnReady(PJRT_Event_OnReady_Args* args) { return Fail("there are no events"); }

static PJRT_Error* ToHost(PJRT_Buffer_ToHostBuffer_Args* args) {
  memcpy(args->dst, ((Array*)args->src)->values, args->dst_size);
  return NULL;
}

static PJRT_Error* DestroyBuffer(PJRT_Buffer_Destroy_Args* args) {
  free(args->buffer);
  return NULL;
}

static int Names(const PJRT_Program* program, const Known* known) {
  return memmem(program->code, program->code_size, known->name, strlen(known->name)) != NULL;
}

static PJRT_Error* Compile(PJRT_Client_Compile_Args* args) {
  Known* all[] = {&sum, &train, &eval};
  int count = getenv("SLICE_TRAINS") != NULL ? 3 : 1;
  for (int i = 0; i < count; ++i) {
    if (!Names(args->program, all[i])) continue;
    args->executable = (PJRT_LoadedExecutable*)all[i];
    return NULL;
  }
  return Fail("the played slice adds up over its chips and computes nothing else");
}

static PJRT_Error* ProgramDevices(PJRT_LoadedExecutable_AddressableDevices_Args* args) {
  args->num_addressable_devices = CHIPS;
  return NULL;
}

static PJRT_Error* GetExecutable(PJRT_LoadedExecutable_GetExecutable_Args* args) {
  args->executable = (PJRT_Executable*)args->loaded_executable;
  return NULL;
}

static PJRT_Error* NumOutputs(PJRT_Executable_NumOutputs_Args* args) {
  args->num_outputs = ((Known*)args->executable)->outputs;
  return NULL;
}

// The pipe of what `process` says, opened once the other end is.
static int Pipe(int process) {
  static int pipes[HOSTS] = {-1, -1};
  if (pipes[process] < 0) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/from-%d", getenv("SLICE_FOLDER"), process);
    pipes[process] = open(path, (process == Process() ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
  }
  return pipes[process];
}

// Writes or reads all of `size` bytes; whether it could.
static int Pass(int process, char* bytes, size_t size) {
  int pipe = Pipe(process);
  while (size > 0) {
    ssize_t passed = process == Process() ? write(pipe, bytes, size) : read(pipe, bytes, size);
    if (passed <= 0) return 0;
    bytes += passed;
    size -= passed;
  }
  return 1;
}

// What each host says, first host 0 and then host 1, which both hear. One whose other half is gone waits for it.
static void Exchange(Array* said[HOSTS]) {
  for (int process = 0; process < HOSTS; ++process) {
    Array* array = said[process];
    while (!Pass(process, (char*)array->values, array->size * sizeof(float))) pause();
  }
}

// Each host adds up over its chips, and then over both hosts.
static void Sum(PJRT_LoadedExecutable_Execute_Args* args) {
  int64_t size = ((Array*)args->argument_lists[0][0])->size;
  Array* said[HOSTS] = {NewArray(size), NewArray(size)};
  for (int chip = 0; chip < CHIPS; ++chip) {
    Array* argument = (Array*)args->argument_lists[chip][0];
    for (int64_t i = 0; i < size; ++i) said[Process()]->values[i] += argument->values[i];
  }
  Exchange(said);
  for (int chip = 0; chip < CHIPS; ++chip) {
    Array* sum = NewArray(size);
    for (int64_t i = 0; i < size; ++i) sum->values[i] = said[0]->values[i] + said[1]->values[i];
    args->output_lists[chip][0] = (PJRT_Buffer*)sum;
  }
  free(said[0]);
  free(said[1]);
}

static PJRT_Buffer* Copy(PJRT_Buffer* buffer) {
  Array* array = (Array*)buffer;
  Array* copy = NewArray(array->size);
  memcpy(copy->values, array->values, array->size * sizeof(float));
  return (PJRT_Buffer*)copy;
}

static PJRT_Buffer* Metrics(int64_t images) {
  Array* metrics = NewArray(METRICS);
  metrics->values[COUNT] = images;
  return (PJRT_Buffer*)metrics;
}

// The state, images and their labels come in; the same state and the metrics go out.
static void Train(PJRT_Buffer* const* in, PJRT_Buffer** out) {
  for (int i = 0; i < STATE; ++i) out[i] = Copy(in[i]);
  out[STATE] = Metrics(ALL * ((Array*)in[STATE + 1])->size);
}

// The network's two arrays, images and their labels come in; the metrics and the logits go out.
static void Evaluate(PJRT_Buffer* const* in, PJRT_Buffer** out) {
  int64_t images = ((Array*)in[3])->size;
  out[0] = Metrics(ALL * images);
  out[1] = (PJRT_Buffer*)NewArray(images * CLASSES);
}

static PJRT_Error* Execute(PJRT_LoadedExecutable_Execute_Args* args) {
  const Known* known = (Known*)args->executable;
  if (known == &sum) {
    Sum(args);
    return NULL;
  }
  Array* here[HOSTS] = {NewArray(1), NewArray(1)};
  Exchange(here);
  for (int chip = 0; chip < CHIPS; ++chip) {
    (known == &train ? Train : Evaluate)(args->argument_lists[chip], args->output_lists[chip]);
  }
  free(here[0]);
  free(here[1]);
  return NULL;
}

const PJRT_Api* GetPjrtApi(void) {
  static PJRT_Api api;
  api.struct_size = sizeof(api);
  api.pjrt_api_version.major_version = PJRT_API_MAJOR;
  api.PJRT_Plugin_Initialize = Initialize;
  api.PJRT_Error_Message = Message;
  api.PJRT_Client_Create = CreateClient;
  api.PJRT_Client_PlatformName = PlatformName;
  api.PJRT_Client_Devices = Devices;
  api.PJRT_Client_AddressableDevices = OwnDevices;
  api.PJRT_Client_BufferFromHostBuffer = Upload;
  api.PJRT_Client_Compile = Compile;
  api.PJRT_Device_GetDescription = Describe;
  api.PJRT_DeviceDescription_Id = DeviceId;
  api.PJRT_DeviceDescription_ProcessIndex = DeviceProcess;
  api.PJRT_DeviceDescription_Kind = DeviceKind;
  api.PJRT_DeviceDescription_ToString = DeviceName;
  api.PJRT_Buffer_ElementType = ElementType;
  api.PJRT_Buffer_Dimensions = Dimensions;
  api.PJRT_Buffer_ToHostBuffer = ToHost;
  api.PJRT_Buffer_Destroy = DestroyBuffer;
  api.PJRT_Event_Await = Await;
  api.PJRT_Event_OnReady = OnReady;
  api.PJRT_LoadedExecutable_AddressableDevices = ProgramDevices;
  api.PJRT_LoadedExecutable_GetExecutable = GetExecutable;
  api.PJRT_LoadedExecutable_Execute = Execute;
  api.PJRT_Executable_NumOutputs = NumOutputs;
  return &api;
}

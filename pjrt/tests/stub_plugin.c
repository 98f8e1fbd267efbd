// A plugin that does nothing, as odd as a plugin may be: each test compiles it with one oddity.

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "xla/pjrt/c/pjrt_c_api.h"
#include "xla/pjrt/c/pjrt_c_api_profiler_extension.h"
#include "xla/pjrt/c/pjrt_c_api_ffi_extension.h"

static int client, device, description, buffer, event, loaded, executable;
static PJRT_Device* devices[] = {(PJRT_Device*)&device};
static PJRT_Event_OnReadyCallback callback;
static void* callback_arg;

static PJRT_Error* Initialize(PJRT_Plugin_Initialize_Args* args) { return NULL; }

#ifdef KEY_VALUE
// How many processes there are, and which this is.
static int nodes = 1, node;

// The error that the caller made last, with its code.
static int kv_error;
static char kv_message[512];

static PJRT_Error* MakeError(PJRT_Error_Code code, const char* message, size_t size) {
  snprintf(kv_message, sizeof(kv_message), "code %d: %.*s", (int)code, (int)size, message);
  return (PJRT_Error*)&kv_error;
}

static PJRT_CallbackError make_error = MakeError;

static void KvMessage(PJRT_Error_Message_Args* args) {
  args->message = kv_message;
  args->message_size = strlen(kv_message);
}

static PJRT_Error* Put(PJRT_Client_Create_Args* client, const char* key, const char* value, size_t size) {
  PJRT_KeyValuePutCallback_Args args = {sizeof(args)};
  args.key = key;
  args.key_size = strlen(key);
  args.value = value;
  args.value_size = size;
  args.callback_error = &make_error;
  args.user_arg = client->kv_put_user_arg;
  return client->kv_put_callback(&args);
}

// Fails where the key has another value than `expected`.
static PJRT_Error* Get(PJRT_Client_Create_Args* client, const char* key, int timeout, const char* expected, size_t size) {
  PJRT_KeyValueGetCallback_Args args = {sizeof(args)};
  args.key = key;
  args.key_size = strlen(key);
  args.timeout_in_ms = timeout;
  args.callback_error = &make_error;
  args.user_arg = client->kv_get_user_arg;
  if (KEY_VALUE == 4) args.struct_size = offsetof(PJRT_KeyValueGetCallback_Args, value);
  PJRT_Error* error = client->kv_get_callback(&args);
  if (error != NULL) return error;
  int is_expected = args.value_size == size && !memcmp(args.value, expected, size);
  args.value_deleter_callback(args.value);
  static const char other[] = "it has another value";
  return is_expected ? NULL : MakeError(PJRT_Error_Code_INTERNAL, other, strlen(other));
}

static PJRT_Error* TryGet(PJRT_Client_Create_Args* client, const char* key) {
  PJRT_KeyValueTryGetCallback_Args args = {sizeof(args)};
  args.key = key;
  args.key_size = strlen(key);
  args.callback_error = &make_error;
  args.user_arg = client->kv_try_get_user_arg;
  PJRT_Error* error = client->kv_try_get_callback(&args);
  if (error == NULL) args.value_deleter_callback(args.value);
  return error;
}

static void ReadOptions(PJRT_Client_Create_Args* args) {
  for (size_t i = 0; i < args->num_options; ++i) {
    const PJRT_NamedValue* option = &args->create_options[i];
    if (option->name_size == 7 && !memcmp(option->name, "node_id", 7)) node = option->int64_value;
    if (option->name_size == 9 && !memcmp(option->name, "num_nodes", 9)) nodes = option->int64_value;
  }
}

// Each process puts a value and gets those of all.
static PJRT_Error* Meet(PJRT_Client_Create_Args* args) {
  if (args->kv_get_callback == NULL) return NULL;
  ReadOptions(args);
  if (KEY_VALUE == 2) return Get(args, "nobody/puts/this", 100, "", 0);
  if (KEY_VALUE == 3) return TryGet(args, "nobody/puts/this");
  if (KEY_VALUE == 6) kill(getpid(), SIGKILL);
  char key[32], value[] = "a\0value of ?";
  size_t last = sizeof(value) - 2;
  snprintf(key, sizeof(key), "node/%d", node);
  value[last] = KEY_VALUE == 5 ? '!' : '0' + node;
  PJRT_Error* error = Put(args, key, value, sizeof(value));
  for (int other = 0; other < nodes && error == NULL; ++other) {
    snprintf(key, sizeof(key), "node/%d", other);
    value[last] = '0' + other;
    error = Get(args, key, 60000, value, sizeof(value));
  }
  return error != NULL ? error : TryGet(args, "node/0");
}

// A device in each process; of oddity 7 one more in process 0.
static PJRT_Error* AllDevices(PJRT_Client_Devices_Args* args) {
  static int numbers[16];
  static PJRT_Device* all[16];
  int count = nodes + (KEY_VALUE == 7);
  for (int i = 0; i < count; ++i) {
    numbers[i] = i;
    all[i] = (PJRT_Device*)&numbers[i];
  }
  devices[0] = all[node];
  args->devices = all;
  args->num_devices = count;
  return NULL;
}

static PJRT_Error* OwnDevice(PJRT_Client_AddressableDevices_Args* args) {
  PJRT_Client_Devices_Args all = {sizeof(all)};
  AllDevices(&all);
  args->addressable_devices = devices;
  args->num_addressable_devices = 1;
  return NULL;
}

static PJRT_Error* Describe(PJRT_Device_GetDescription_Args* args) {
  args->device_description = (PJRT_DeviceDescription*)args->device;
  return NULL;
}

static PJRT_Error* DeviceId(PJRT_DeviceDescription_Id_Args* args) {
  args->id = *(int*)args->device_description;
  return NULL;
}

static PJRT_Error* DeviceProcess(PJRT_DeviceDescription_ProcessIndex_Args* args) {
  args->process_index = *(int*)args->device_description % nodes;
  return NULL;
}

static PJRT_Error* DeviceKind(PJRT_DeviceDescription_Kind_Args* args) {
  args->device_kind = "stub";
  args->device_kind_size = strlen(args->device_kind);
  return NULL;
}

static PJRT_Error* CompileForEver(PJRT_Client_Compile_Args* args) {
  fprintf(stderr, "the stub compiles\n");
  for (;;) pause();
}

// Of oddity 9: process 0 takes a second.
static PJRT_Error* DestroyClient(PJRT_Client_Destroy_Args* args) {
  if (node == 0) sleep(1);
  return NULL;
}

static PJRT_Error* PlatformName(PJRT_Client_PlatformName_Args* args) {
  args->platform_name = "cuda";
  args->platform_name_size = strlen(args->platform_name);
  return NULL;
}
#endif

static PJRT_Error* CreateClient(PJRT_Client_Create_Args* args) {
#ifdef KEY_VALUE
  PJRT_Error* error = Meet(args);
  if (error != NULL) return error;
#endif
#ifndef NO_CLIENT
  args->client = (PJRT_Client*)&client;
#endif
  return NULL;
}

static PJRT_Error* Devices(PJRT_Client_AddressableDevices_Args* args) {
#ifdef NULL_DEVICE
  devices[0] = NULL;
#endif
  args->addressable_devices = devices;
  args->num_addressable_devices = 1;
  return NULL;
}

static PJRT_Error* Upload(PJRT_Client_BufferFromHostBuffer_Args* args) {
#ifndef NO_BUFFER
  args->buffer = (PJRT_Buffer*)&buffer;
#endif
#ifndef NO_READ_EVENT
  args->done_with_host_buffer = (PJRT_Event*)&event;
#endif
  return NULL;
}

static PJRT_Error* OnReady(PJRT_Event_OnReady_Args* args) {
  callback = args->callback;
  callback_arg = args->user_arg;
  return NULL;
}

static PJRT_Error* ElementType(PJRT_Buffer_ElementType_Args* args) {
  args->type = PJRT_Buffer_Type_F32;
  return NULL;
}

static PJRT_Error* Dimensions(PJRT_Buffer_Dimensions_Args* args) {
#if defined ENORMOUS
  // More bytes than any memory has.
  static const int64_t dims[] = {(int64_t)1 << 60, 1};
#elif defined UNCOUNTABLE
  // More elements than a number of 64 bits counts.
  static const int64_t dims[] = {(int64_t)1 << 40, (int64_t)1 << 40};
#else
  static const int64_t dims[] = {2, -1};
#endif
  args->dims = dims;
  args->num_dims = 2;
  return NULL;
}

static PJRT_Error* Ready(PJRT_Buffer_ReadyEvent_Args* args) { return NULL; }

static PJRT_Error* Await(PJRT_Event_Await_Args* args) { return NULL; }

static PJRT_Error* GetDescription(PJRT_Device_GetDescription_Args* args) {
  args->device_description = (PJRT_DeviceDescription*)&description;
  return NULL;
}

static PJRT_Error* Compile(PJRT_Client_Compile_Args* args) {
  args->executable = (PJRT_LoadedExecutable*)&loaded;
  return NULL;
}

static PJRT_Error* ProgramDevices(PJRT_LoadedExecutable_AddressableDevices_Args* args) {
  args->num_addressable_devices = 1;
  return NULL;
}

static PJRT_Error* GetExecutable(PJRT_LoadedExecutable_GetExecutable_Args* args) {
  args->executable = (PJRT_Executable*)&executable;
  return NULL;
}

static PJRT_Error* NumOutputs(PJRT_Executable_NumOutputs_Args* args) {
  args->num_outputs = (size_t)1 << 62;
  return NULL;
}

static PJRT_Error* OptimizedProgram(PJRT_Executable_OptimizedProgram_Args* args) {
  args->program->code_size = (size_t)1 << 62;
  return NULL;
}

#ifdef PROFILER
static int profiler, profiler_error;
// What was called, a letter each.
static char calls[8];

static void Called(const char* letter) {
  if (strlen(calls) + 1 < sizeof(calls)) strcat(calls, letter);
}

const char* Calls(void) { return calls; }

static void DestroyError(PLUGIN_Profiler_Error_Destroy_Args* args) { Called("E"); }

static void Message(PLUGIN_Profiler_Error_Message_Args* args) {
  int known = args->error == (PLUGIN_Profiler_Error*)&profiler_error;
  args->message = known ? "no counters\nhere" : "?";
  args->message_size = strlen(args->message);
}

static PLUGIN_Profiler_Error* Create(PLUGIN_Profiler_Create_Args* args) {
  Called(args->struct_size == PLUGIN_Profiler_Create_Args_STRUCT_SIZE && args->options_size > 0 ? "C" : "?");
  args->profiler = PROFILER == 2 ? NULL : (PLUGIN_Profiler*)&profiler;
  return NULL;
}

static PLUGIN_Profiler_Error* Destroy(PLUGIN_Profiler_Destroy_Args* args) {
  Called(args->profiler == (PLUGIN_Profiler*)&profiler ? "D" : "?");
  return NULL;
}

static PLUGIN_Profiler_Error* Start(PLUGIN_Profiler_Start_Args* args) {
  Called(args->profiler == (PLUGIN_Profiler*)&profiler ? "S" : "?");
  return PROFILER == 3 ? (PLUGIN_Profiler_Error*)&profiler_error : NULL;
}

static PLUGIN_Profiler_Error* Stop(PLUGIN_Profiler_Stop_Args* args) {
  Called(args->profiler == (PLUGIN_Profiler*)&profiler ? "T" : "?");
  return NULL;
}

static PLUGIN_Profiler_Error* Collect(PLUGIN_Profiler_CollectData_Args* args) {
  Called(args->struct_size == PLUGIN_Profiler_CollectData_Args_STRUCT_SIZE ? "B" : "?");
  // A protocol buffer: field 1, three bytes.
  static uint8_t own[] = "\x0a\x03" "abc";
#if PROFILER == 7
  // As XLA's own plugins do: their memory, with a zero at the end.
  args->buffer = own;
  args->buffer_size_in_bytes = sizeof(own);
#else
  if (args->buffer != NULL) memcpy(args->buffer, own, 5);
  args->buffer_size_in_bytes = PROFILER == 4 ? (size_t)1 << 62 : 5;
#endif
  return NULL;
}

static PLUGIN_Profiler_Api profiler_api = {
    // As of a version that had nothing to collect.
    PROFILER == 5 ? offsetof(PLUGIN_Profiler_Api, collect_data) : PLUGIN_Profiler_Api_STRUCT_SIZE,
    NULL, DestroyError, Message, NULL, Create, Destroy, Start, Stop, Collect};
#endif

static int refusal;

#ifdef MEMORY
static PJRT_Error* PlatformName(PJRT_Client_PlatformName_Args* args) {
  args->platform_name = "stub";
  args->platform_name_size = strlen(args->platform_name);
  return NULL;
}

static PJRT_Error* AllDevices(PJRT_Client_Devices_Args* args) {
  args->devices = devices;
  args->num_devices = 1;
  return NULL;
}

static PJRT_Error* DeviceId(PJRT_DeviceDescription_Id_Args* args) { return NULL; }

static PJRT_Error* DeviceProcess(PJRT_DeviceDescription_ProcessIndex_Args* args) { return NULL; }

static PJRT_Error* DeviceKind(PJRT_DeviceDescription_Kind_Args* args) {
  args->device_kind = "stub";
  args->device_kind_size = strlen(args->device_kind);
  return NULL;
}

static PJRT_Error* DeviceName(PJRT_DeviceDescription_ToString_Args* args) {
  args->to_string = "StubDevice(id=0)";
  args->to_string_size = strlen(args->to_string);
  return NULL;
}

// The place of the device, and something of a type that no header has.
static PJRT_Error* Attributes(PJRT_DeviceDescription_Attributes_Args* args) {
  static const int64_t place[] = {0, 1};
  static PJRT_NamedValue values[2];
  values[0].name = "coords";
  values[0].name_size = strlen(values[0].name);
  values[0].type = PJRT_NamedValue_kInt64List;
  values[0].int64_array_value = place;
  values[0].value_size = 2;
  values[1] = values[0];
  values[1].type = (PJRT_NamedValue_Type)99;
  args->attributes = values;
  args->num_attributes = 2;
  return NULL;
}

// 1: all of it. 2: only what is in use. 3: an error.
static PJRT_Error* MemoryStats(PJRT_Device_MemoryStats_Args* args) {
  args->bytes_in_use = (int64_t)512 << 20;
  args->peak_bytes_in_use = (int64_t)2 << 30;
  args->peak_bytes_in_use_is_set = MEMORY == 1;
  args->bytes_limit = (int64_t)16 << 30;
  args->bytes_limit_is_set = MEMORY == 1;
  return MEMORY == 3 ? (PJRT_Error*)&refusal : NULL;
}
#endif

static PJRT_Error* RegisterHandler(PJRT_FFI_Register_Handler_Args* args) {
  static const char known[] = "known";
  int is_known = args->target_name_size == strlen(known) && !memcmp(args->target_name, known, strlen(known));
  int is_host = args->platform_name_size == 4 && !memcmp(args->platform_name, "Host", 4);
  return is_known && is_host && args->handler != NULL ? NULL : (PJRT_Error*)&refusal;
}

static void RefusalMessage(PJRT_Error_Message_Args* args) {
  args->message = "not that one";
  args->message_size = strlen(args->message);
}

// The plugin has read what was uploaded last.
void FinishUpload(void) { callback(NULL, callback_arg); }

const PJRT_Api* GetPjrtApi(void) {
  static PJRT_Api api;
  api.struct_size = sizeof(api);
  api.pjrt_api_version.major_version = PJRT_API_MAJOR;
  api.PJRT_Plugin_Initialize = Initialize;
  api.PJRT_Client_Create = CreateClient;
  api.PJRT_Client_AddressableDevices = Devices;
  api.PJRT_Client_BufferFromHostBuffer = Upload;
#ifndef NO_CALLBACK
  api.PJRT_Event_OnReady = OnReady;
#endif
  api.PJRT_Buffer_ElementType = ElementType;
  api.PJRT_Buffer_Dimensions = Dimensions;
  api.PJRT_Buffer_ReadyEvent = Ready;
  api.PJRT_Event_Await = Await;
#ifdef NO_ATTRIBUTES
  api.PJRT_Device_GetDescription = GetDescription;
#endif
#ifdef ENORMOUS
  api.PJRT_Client_Compile = Compile;
  api.PJRT_LoadedExecutable_AddressableDevices = ProgramDevices;
  api.PJRT_LoadedExecutable_GetExecutable = GetExecutable;
  api.PJRT_Executable_NumOutputs = NumOutputs;
  api.PJRT_Executable_OptimizedProgram = OptimizedProgram;
#endif
#ifdef SHORT_TABLE
  // As of a version before there were uploads.
  api.struct_size = offsetof(PJRT_Api, PJRT_Client_BufferFromHostBuffer);
#endif
#if defined FFI || defined OLD_FFI
  static PJRT_FFI_Extension ffi = {{sizeof(ffi), PJRT_Extension_Type_FFI}, NULL, NULL, RegisterHandler};
#ifdef OLD_FFI
  // As of a version before handlers came through it.
  ffi.base.struct_size = offsetof(PJRT_FFI_Extension, register_handler);
#endif
  api.extension_start = &ffi.base;
  api.PJRT_Error_Message = RefusalMessage;
#endif
#ifdef KEY_VALUE
  api.PJRT_Client_PlatformName = PlatformName;
  api.PJRT_Client_Devices = AllDevices;
  api.PJRT_Client_AddressableDevices = OwnDevice;
  api.PJRT_Device_GetDescription = Describe;
  api.PJRT_DeviceDescription_Id = DeviceId;
  api.PJRT_DeviceDescription_ProcessIndex = DeviceProcess;
  api.PJRT_DeviceDescription_Kind = DeviceKind;
  api.PJRT_Error_Message = KvMessage;
  if (KEY_VALUE == 8) api.PJRT_Client_Compile = CompileForEver;
  if (KEY_VALUE == 9) api.PJRT_Client_Destroy = DestroyClient;
#endif
#ifdef MEMORY
  static PJRT_Extension_Base layouts = {sizeof(layouts), PJRT_Extension_Type_Layouts};
  api.extension_start = &layouts;
  api.PJRT_Client_PlatformName = PlatformName;
  api.PJRT_Client_Devices = AllDevices;
  api.PJRT_Device_GetDescription = GetDescription;
  api.PJRT_Device_MemoryStats = MemoryStats;
  api.PJRT_DeviceDescription_Id = DeviceId;
  api.PJRT_DeviceDescription_ProcessIndex = DeviceProcess;
  api.PJRT_DeviceDescription_Kind = DeviceKind;
  api.PJRT_DeviceDescription_ToString = DeviceName;
  api.PJRT_DeviceDescription_Attributes = Attributes;
  api.PJRT_Error_Message = RefusalMessage;
#endif
#ifdef CIRCLE
  static PJRT_Extension_Base extension = {sizeof(extension), PJRT_Extension_Type_Profiler};
  extension.next = &extension;
  api.extension_start = &extension;
#endif
#ifdef PROFILER
  static PJRT_Profiler_Extension profiler_extension = {
      {PJRT_Profiler_Extension_STRUCT_SIZE, PJRT_Extension_Type_Profiler, NULL}, &profiler_api};
  // 6: as an extension of functions' arguments has it.
  if (PROFILER == 6) profiler_extension.profiler_api = NULL;
  api.extension_start = &profiler_extension.base;
#endif
  return &api;
}

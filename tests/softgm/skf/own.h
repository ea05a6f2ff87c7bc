/* What the SKF library adds to the shared sources. TEST ONLY: see ../README.md. */
#ifndef SOFTSKF_OWN_H
#define SOFTSKF_OWN_H

#define FAULTS_VARIABLE "SOFTSKF_FAULTS"
#define CODE_OK 0
#define CODE_REMOVED 0x0A000023 /* SAR_DEVICE_REMOVED */

typedef struct Handle Handle;

#define OWN_CALL_FIELDS Handle *handle, *device, *application, *container;

#endif

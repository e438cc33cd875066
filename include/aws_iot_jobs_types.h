/* What is asked of jobs. */
#ifndef IOTEDGE_AWS_IOT_JOBS_TYPES_H
#define IOTEDGE_AWS_IOT_JOBS_TYPES_H

#ifdef DISABLE_IOT_JOBS
#error "Jobs are disabled: DISABLE_IOT_JOBS is defined"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws_iot_mqtt_client_interface.h"
#include "jsmn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
	JOB_EXECUTION_STATUS_NOT_SET = 0,
	JOB_EXECUTION_QUEUED = 1,
	JOB_EXECUTION_IN_PROGRESS = 2,
	JOB_EXECUTION_FAILED = 3,
	JOB_EXECUTION_SUCCEEDED = 4,
	JOB_EXECUTION_CANCELED = 5,
	JOB_EXECUTION_REJECTED = 6,
	JOB_EXECUTION_UNKNOWN_STATUS = 99
} JobExecutionStatus;

static const char *JOB_EXECUTION_QUEUED_STR IOTEDGE_MAYBE_UNUSED = "QUEUED";
static const char *JOB_EXECUTION_IN_PROGRESS_STR IOTEDGE_MAYBE_UNUSED = "IN_PROGRESS";
static const char *JOB_EXECUTION_FAILED_STR IOTEDGE_MAYBE_UNUSED = "FAILED";
static const char *JOB_EXECUTION_SUCCEEDED_STR IOTEDGE_MAYBE_UNUSED = "SUCCEEDED";
/* The name in version 2. */
static const char *JOB_EXECUTION_SUCCESS_STR IOTEDGE_MAYBE_UNUSED = "SUCCEEDED";
static const char *JOB_EXECUTION_CANCELED_STR IOTEDGE_MAYBE_UNUSED = "CANCELED";
static const char *JOB_EXECUTION_REJECTED_STR IOTEDGE_MAYBE_UNUSED = "REJECTED";

/* NULL and "" are JOB_EXECUTION_STATUS_NOT_SET. */
JobExecutionStatus aws_iot_jobs_map_string_to_job_status(const char *str);

/* NULL for a status without a name. */
const char *aws_iot_jobs_map_status_to_string(JobExecutionStatus status);

/* 0, NULL and false are left out of a request. */
typedef struct {
	int64_t expectedVersion;
	int64_t executionNumber;
	JobExecutionStatus status;
	/* Text of JSON. */
	const char *statusDetails;
	bool includeJobExecutionState;
	bool includeJobDocument;
	const char *clientToken;
} AwsIotJobExecutionUpdateRequest;

typedef struct {
	int64_t executionNumber;
	bool includeJobDocument;
	const char *clientToken;
} AwsIotDescribeJobExecutionRequest;

typedef struct {
	/* Text of JSON. */
	const char *statusDetails;
	const char *clientToken;
} AwsIotStartNextPendingJobExecutionRequest;

#ifdef __cplusplus
}
#endif

#endif

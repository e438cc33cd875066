/*
 * Requests of jobs as JSON. Each writes as snprintf does: how long the text is, which may be more
 * than fits; -1 when the request is NULL.
 */
#ifndef IOTEDGE_AWS_IOT_JOBS_JSON_H
#define IOTEDGE_AWS_IOT_JOBS_JSON_H

#include "aws_iot_jobs_types.h"

#ifdef __cplusplus
extern "C" {
#endif

int aws_iot_jobs_json_serialize_update_job_execution_request(
	char *requestBuffer, size_t bufferSize, const AwsIotJobExecutionUpdateRequest *request);

int aws_iot_jobs_json_serialize_client_token_only_request(char *requestBuffer, size_t bufferSize,
														  const char *clientToken);

/* 0 without a buffer. */
int aws_iot_jobs_json_serialize_describe_job_execution_request(
	char *requestBuffer, size_t bufferSize, const AwsIotDescribeJobExecutionRequest *request);

int aws_iot_jobs_json_serialize_start_next_job_execution_request(
	char *requestBuffer, size_t bufferSize,
	const AwsIotStartNextPendingJobExecutionRequest *request);

#ifdef __cplusplus
}
#endif

#endif

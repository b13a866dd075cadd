"""The operations of the fake's API on its jobs: create, describe, list, stop, update, delete, tags."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

from tests.support.aws.host import s3_parts
from tests.support.aws.jobs import ENDED, Job
from tests.support.aws.rules import Refused, check_create, check_shape, invalid, types_of


class Api:
    """Answers one call at a time; the caller holds the lock."""

    def __init__(self, fake: Any) -> None:
        self.fake = fake
        self.tags: dict[str, list[dict[str, str]]] = {}

    def answer(self, operation: str, region: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer, or Refused."""
        handler = getattr(self, f"_{operation}", None)
        if handler is None:
            raise Refused("UnknownOperationException", f"the fake has no {operation}")
        check_shape(operation, request)
        result: dict[str, Any] = handler(region, request)
        return result

    def _CreateTrainingJob(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        fake, name = self.fake, request["TrainingJobName"]
        if "InstancePreferences" in request.get("ResourceConfig", {}) and not fake.has_preferences:
            raise invalid("InstancePreferences is not available for this account.")
        check_create(request)
        if (region, name) in fake.jobs:
            arn = fake.jobs[region, name].arn
            raise Refused(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a training job with this name"
                f" already exists ({arn})",
            )
        self._check_role(request["RoleArn"])
        self._check_objects(region, request)
        self._check_quota(region, request)
        job = fake.jobs[region, name] = Job(fake, region, request, fake.plan_for(name))
        self.tags[job.arn] = list(request.get("Tags", []))
        return {"TrainingJobArn": job.arn}

    def _check_role(self, arn: str) -> None:
        refusal = invalid(
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal"
            " 'sagemaker.amazonaws.com' to assume the role."
        )
        try:
            role = self.fake.iam.get_role(RoleName=arn.rpartition("/")[2])["Role"]
        except self.fake.iam.exceptions.NoSuchEntityException:
            raise refusal from None
        document = role["AssumeRolePolicyDocument"]
        document = json.loads(urllib.parse.unquote(document)) if isinstance(document, str) else document
        services = [statement.get("Principal", {}).get("Service", "") for statement in document["Statement"]]
        if not any("sagemaker.amazonaws.com" in service for service in services):
            raise refusal

    def _check_objects(self, region: str, request: dict[str, Any]) -> None:
        s3 = self.fake.s3
        for channel in request.get("InputDataConfig", []):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            bucket, prefix = s3_parts(uri)
            try:
                found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("KeyCount", 0)
            except s3.exceptions.NoSuchBucket:
                found = 0
            if not found:
                raise invalid(
                    f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the'
                    f" bucket exists in the selected region ({region}), that objects exist under that S3 prefix, and"
                    f' that the role "{request["RoleArn"]}" has "s3:ListBucket" permissions on bucket "{bucket}".'
                )

    def _check_quota(self, region: str, request: dict[str, Any]) -> None:
        for kind in types_of(request["ResourceConfig"]):
            self._check_quota_of(region, request, kind)

    def _check_quota_of(self, region: str, request: dict[str, Any], kind: str) -> None:
        wanted = request["ResourceConfig"].get("InstanceCount", 1)
        limit = self.fake.quotas.get(kind)
        used = sum(
            job.request["ResourceConfig"].get("InstanceCount", 1)
            for (where, _), job in self.fake.jobs.items()
            if where == region
            and job.status not in ENDED
            and kind in ([job.selected] if job.selected else types_of(job.request["ResourceConfig"]))
        )
        if limit is not None and used + wanted > limit:
            usage = "spot training job" if request.get("EnableManagedSpotTraining") else "training job"
            raise Refused(
                "ResourceLimitExceeded",
                f"The account-level service limit '{kind} for {usage} usage' is {limit} Instances, with current"
                f" utilization of {used} Instances and a request delta of {wanted} Instances. Please use AWS Service"
                " Quotas to request an increase for this quota. If AWS Service Quotas is not available, contact AWS"
                " support to request an increase for this quota.",
            )

    def _find(self, region: str, name: str) -> Job:
        job = self.fake.jobs.get((region, name))
        if job is None:
            raise invalid("Requested resource not found.")
        found: Job = job
        return found

    def _DescribeTrainingJob(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        return self._find(region, request["TrainingJobName"]).describe()

    def _StopTrainingJob(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        job = self._find(region, request["TrainingJobName"])
        if job.status in ENDED:
            raise invalid(f"The request was rejected because the training job is in status {job.status}.")
        if job.status != "Stopping":
            job.stop(self.fake.now())
        return {}

    def _UpdateTrainingJob(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        job = self._find(region, request["TrainingJobName"])
        keep = request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds")
        if keep is not None:
            job.keep_alive_s = keep
        return {"TrainingJobArn": job.arn}

    def _DeleteTrainingJob(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        job = self._find(region, request["TrainingJobName"])
        if job.status not in ENDED:
            raise Refused("ResourceInUse", f"Training job {job.name} is in status {job.status}.")
        del self.fake.jobs[region, job.name]
        return {}

    def _ListTrainingJobs(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        jobs = [job for (where, _), job in self.fake.jobs.items() if where == region]
        keep = {
            "NameContains": lambda job, text: text.lower() in job.name.lower(),
            "StatusEquals": lambda job, status: job.status == status,
            "CreationTimeAfter": lambda job, at: job.created > at,
            "CreationTimeBefore": lambda job, at: job.created < at,
            "LastModifiedTimeAfter": lambda job, at: job.modified > at,
            "LastModifiedTimeBefore": lambda job, at: job.modified < at,
        }
        for name, test in keep.items():
            if name in request:
                jobs = [job for job in jobs if test(job, request[name])]
        order = {"Name": lambda job: job.name, "Status": lambda job: job.status}
        ascending = request.get("SortOrder", "Ascending" if "SortBy" in request else "Descending") == "Ascending"
        jobs.sort(key=order.get(request.get("SortBy", ""), lambda job: job.created), reverse=not ascending)
        start, size = int(request.get("NextToken") or 0), request.get("MaxResults", 10)
        answer: dict[str, Any] = {"TrainingJobSummaries": [job.summary() for job in jobs[start : start + size]]}
        if start + size < len(jobs):
            answer["NextToken"] = str(start + size)
        return answer

    def _DescribeMlflowTrackingServer(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        return self._mlflow(f"mlflow-tracking-server/{request['TrackingServerName']}", "TrackingServerStatus")

    def _DescribeMlflowApp(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        return self._mlflow(request["Arn"].rpartition(":")[2], "Status")

    def _mlflow(self, name: str, key: str) -> dict[str, Any]:
        if name not in self.fake.mlflow:
            raise Refused("ResourceNotFound", f"{name} does not exist.")
        version, status = self.fake.mlflow[name]
        return {"MlflowVersion": version, key: status}

    def _ListTags(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": self.tags.get(request["ResourceArn"], [])}

    def _AddTags(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        new = {tag["Key"] for tag in request["Tags"]}
        old = [tag for tag in self.tags.get(request["ResourceArn"], []) if tag["Key"] not in new]
        self.tags[request["ResourceArn"]] = old + request["Tags"]
        return {"Tags": self.tags[request["ResourceArn"]]}

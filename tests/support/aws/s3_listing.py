"""What moto's ListObjectsV2 leaves out: whether archived objects are restored, for who asks for RestoreStatus."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_plus


def tell_of_restored() -> None:
    """Teach this process's moto."""
    from moto.core.responses import ActionResult
    from moto.s3.responses import S3Response

    serialized = S3Response.serialized

    def with_restored(self: Any, result: ActionResult) -> Any:
        listed: Any = result.result
        if self.data.get("Action") == "ListObjectsV2" and self.headers.get("x-amz-optional-object-attributes"):
            for item in listed["Contents"]:
                key = self.backend.get_object(self.bucket_name, unquote_plus(item["Key"]))
                if key.expiry_date is not None:
                    is_under_way = key.status == "IN_PROGRESS"
                    item["RestoreStatus"] = {"IsRestoreInProgress": is_under_way}
                    if not is_under_way:
                        item["RestoreStatus"]["RestoreExpiryDate"] = key._expiry
        return serialized(self, result)

    S3Response.serialized = with_restored

"""Handlers for registries of tests."""

from pydantic import BaseModel, Field

from jobsd.sdk import JobContext


class ImportCourse(BaseModel):
    course_id: str
    limit: int = Field(100, ge=1)


async def import_course(ctx: JobContext, params: ImportCourse) -> dict[str, int]:
    return {"limit": params.limit}

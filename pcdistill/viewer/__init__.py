"""A finished run in the browser: scenes, questions, what each method says, and why."""

from pcdistill.viewer.same_origin import LOCAL_HOSTS
from pcdistill.viewer.viewer_app import ViewerApp
from pcdistill.viewer.viewer_session import ViewerSession

__all__ = ["LOCAL_HOSTS", "ViewerApp", "ViewerSession"]

"""Training of a run's students: resumed, measured, told of and written while it goes on."""

from pcdistill.training.student_training import HandOver, StudentTraining

__all__ = ["HandOver", "StudentTraining"]

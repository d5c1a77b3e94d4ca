"""Teachers: frozen 2D models with open vocabulary, and the text encoders of their spaces."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
    from pcdistill.teachers.base import (
        BatchTeacher,
        FeatureMap,
        GeometryTeacher,
        LabelledMasks,
        SelectiveTeacher,
        TaughtTeacher,
        Teacher,
        TeacherSetup,
        TextEncoder,
        ViewGeometry,
        WordReader,
        encoder_revision,
        predict_batch,
        read_words,
        taught_words,
        teacher_revision,
    )
    from pcdistill.teachers.demo.teachers import DemoDenseTeacher, DemoMaskTeacher
    from pcdistill.teachers.detector import PhotoDetector
    from pcdistill.teachers.embed_prompts import embed_names
    from pcdistill.teachers.hub_models import HubFolder
    from pcdistill.teachers.hub_parts import read_part_names
    from pcdistill.teachers.known_words import Words
    from pcdistill.teachers.lseg import LSegTeacher
    from pcdistill.teachers.registry import TEACHERS, build_teacher
    from pcdistill.teachers.sam3 import Sam3Teacher
    from pcdistill.teachers.seem import SeemTeacher
    from pcdistill.teachers.text_encoders import (
        TEXT_ENCODERS,
        StaticTextEncoder,
        build_text_encoder,
        no_known_word,
    )
    from pcdistill.teachers.transformers_package import import_transformers, require_transformers
    from pcdistill.teachers.weight_download import fetch_weights, require_published
    from pcdistill.teachers.weight_files import (
        WEIGHT_FILES,
        WeightFile,
        WeightProbe,
        WeightStore,
        files_revision,
        find_weight_entry,
        how_to_get,
        how_to_get_all,
        is_folder,
        load_state_dict,
        missing_parts,
    )

__all__ = [
    "TEACHERS",
    "TEXT_ENCODERS",
    "WEIGHT_FILES",
    "BatchTeacher",
    "DemoDenseTeacher",
    "DemoMaskTeacher",
    "FeatureMap",
    "GeometryTeacher",
    "HubFolder",
    "LSegTeacher",
    "LabelledMasks",
    "PhotoDetector",
    "Sam3Teacher",
    "SeemTeacher",
    "SelectiveTeacher",
    "StaticTextEncoder",
    "TaughtTeacher",
    "Teacher",
    "TeacherSetup",
    "TextEncoder",
    "ViewGeometry",
    "WeightFile",
    "WeightProbe",
    "WeightStore",
    "WordReader",
    "Words",
    "build_teacher",
    "build_text_encoder",
    "embed_names",
    "encoder_revision",
    "fetch_weights",
    "files_revision",
    "find_weight_entry",
    "how_to_get",
    "how_to_get_all",
    "import_transformers",
    "is_folder",
    "load_state_dict",
    "missing_parts",
    "no_known_word",
    "predict_batch",
    "read_part_names",
    "read_words",
    "require_published",
    "require_transformers",
    "taught_words",
    "teacher_revision",
]
__getattr__ = lazy_face(__name__, __file__)

"""Reader of Matterport3D regions."""
